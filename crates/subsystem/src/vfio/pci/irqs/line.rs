//! The INTx line: level-triggered, and masked each time it is delivered until the user unmasks it.

use super::super::registers::COMMAND_INTX_DISABLE;
use super::super::set_command;
use super::{Action, Active, Data, Irqs, Request, find_event};
use crate::ctx::CallCtx;
use crate::host::{Function, Host, IrqKind, Watch};
use crate::rules::{Refusal, vfio as rules};

/// The line while it is enabled.
pub(super) struct Line<H: Host> {
    target: Option<H::Event>,
    masked: bool,
    /// An eventfd unmasks it.
    unmask: bool,
}

impl<H: Host> Irqs<H> {
    /// SET_IRQS on the line.
    pub(super) fn set_line(
        &mut self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        function: Function,
        request: &Request,
    ) -> Result<u32, Refusal> {
        match request.action {
            Action::Trigger => self.trigger_line(host, ctx, function, request)?,
            Action::Mask => {
                if asked(self.active_line(request)?.1)? {
                    self.mask_line(host, function);
                }
            }
            Action::Unmask => {
                let (line, data) = self.active_line(request)?;
                if let Data::Events(events) = data {
                    set_unmask(host, ctx, function, line, events.get(0).copied().unwrap_or(-1))?;
                } else if asked(data)? {
                    self.unmask_line(host, function);
                }
            }
        }
        Ok(0)
    }

    /// The line, which has to be enabled, for a request that is about it as a whole.
    fn active_line<'a>(&mut self, request: &'a Request) -> Result<(&mut Line<H>, &'a Data), Refusal> {
        let Active::Line(line) = &mut self.active else { return Err(rules::SET_IRQS_DISABLED) };
        if request.start != 0 || request.count != 1 {
            return Err(rules::SET_IRQS_LINE_RANGE);
        }
        Ok((line, &request.data))
    }

    fn trigger_line(
        &mut self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        function: Function,
        request: &Request,
    ) -> Result<(), Refusal> {
        match (&self.active, &request.data) {
            (Active::Line(_), Data::None) if request.count == 0 => {
                self.disable_line(host, function);
                return Ok(());
            }
            (Active::None, Data::None) => return Err(rules::SET_IRQS_DISABLED),
            (Active::Messages(_), _) => return Err(rules::SET_IRQS_OTHER_KIND),
            _ if request.start != 0 || request.count != 1 => return Err(rules::SET_IRQS_LINE_RANGE),
            _ => {}
        }
        if let Data::Events(events) = &request.data {
            let fd = events.get(0).copied().unwrap_or(-1);
            let target = if fd < 0 { None } else { Some(find_event(ctx, fd)?) };
            return self.enable_line(host, function, target);
        }
        let Active::Line(line) = &self.active else { return Err(rules::SET_IRQS_DISABLED) };
        if asked(&request.data)? {
            line.deliver(host, self.line_disabled);
        }
        Ok(())
    }

    /// Enables the line, or exchanges its target.
    fn enable_line(&mut self, host: &H, function: Function, target: Option<H::Event>) -> Result<(), Refusal> {
        if let Active::Line(line) = &mut self.active {
            line.target = target;
            return Ok(());
        }
        if !host.has_line(function) || host.vectors_enable(function, IrqKind::Line, 1) == 0 {
            return Err(rules::SET_IRQS_NO_LINE);
        }
        let masked = self.line_disabled;
        self.active = Active::Line(Line { target, masked, unmask: false });
        set_command(host, function, COMMAND_INTX_DISABLE, if masked { COMMAND_INTX_DISABLE } else { 0 });
        self.line_event(host, function);
        Ok(())
    }

    /// Disables the line if it is enabled.
    pub(super) fn disable_line(&mut self, host: &H, function: Function) {
        if let Active::Line(line) = &self.active {
            if line.unmask {
                host.watch(function, Watch::Unmask, None);
            }
            host.vectors_disable(function, IrqKind::Line);
            self.active = Active::None;
        }
    }

    /// The line may have risen: if it has, and is not masked, it is masked and delivered.
    pub(in super::super) fn line_event(&mut self, host: &H, function: Function) {
        if let Active::Line(line) = &mut self.active
            && !line.masked
            && host.line_level(function)
        {
            line.masked = true;
            set_command(host, function, COMMAND_INTX_DISABLE, COMMAND_INTX_DISABLE);
            line.deliver(host, self.line_disabled);
        }
    }

    fn mask_line(&mut self, host: &H, function: Function) {
        match &mut self.active {
            Active::Line(line) if line.masked => return,
            Active::Line(line) => line.masked = true,
            _ => {}
        }
        set_command(host, function, COMMAND_INTX_DISABLE, COMMAND_INTX_DISABLE);
    }

    /// Unmasks the line; if it is still raised, it is delivered again instead.
    pub(in super::super) fn unmask_line(&mut self, host: &H, function: Function) {
        match &mut self.active {
            Active::Line(line) if !line.masked || self.line_disabled => return,
            Active::Line(line) if host.line_level(function) => return line.deliver(host, false),
            Active::Line(line) => line.masked = false,
            _ => {}
        }
        set_command(host, function, COMMAND_INTX_DISABLE, 0);
    }

    /// The user has written the bit of the command register that disables the line.
    pub(in super::super) fn set_line_disabled(&mut self, host: &H, function: Function, disabled: bool) {
        if disabled == self.line_disabled {
            return;
        }
        self.line_disabled = disabled;
        if disabled { self.mask_line(host, function) } else { self.unmask_line(host, function) }
    }
}

impl<H: Host> Line<H> {
    fn deliver(&self, host: &H, disabled: bool) {
        if let Some(target) = self.target.as_ref().filter(|_| !disabled) {
            host.signal(target);
        }
    }
}

/// Whether a request without eventfds asks for its action.
fn asked(data: &Data) -> Result<bool, Refusal> {
    match data {
        Data::None => Ok(true),
        Data::Bools(bools) => Ok(bools.get(0).is_some_and(|&asked| asked != 0)),
        Data::Events(_) => Err(rules::SET_IRQS_ACTION),
    }
}

fn set_unmask<H: Host>(
    host: &H,
    ctx: &CallCtx<'_, H>,
    function: Function,
    line: &mut Line<H>,
    fd: i32,
) -> Result<(), Refusal> {
    let event = if fd < 0 { None } else { Some(find_event(ctx, fd)?) };
    if event.is_some() && line.unmask {
        return Err(rules::SET_IRQS_UNMASK_BUSY);
    }
    line.unmask = event.is_some();
    host.watch(function, Watch::Unmask, event);
    Ok(())
}
