//! Message-signalled interrupts: MSI and MSI-X.

use super::{Active, Data, Irqs, Request, find_event};
use crate::ctx::CallCtx;
use crate::host::{Function, Host, IrqKind};
use crate::mem::List;
use crate::rules::{Refusal, vfio as rules};

/// What a kind of interrupt of a function can do.
#[derive(Clone, Copy)]
pub(super) struct Spec {
    pub(super) function: Function,
    pub(super) kind: IrqKind,
    /// How many vectors there are at most.
    pub(super) capacity: u32,
    /// Whether vectors can be added while others are enabled.
    pub(super) dynamic: bool,
}

/// MSI or MSI-X while it is enabled.
pub(super) struct Messages<H: Host> {
    kind: IrqKind,
    /// How many vectors it was enabled with.
    allocated: u32,
    /// Who is signalled, for each vector that there can be.
    targets: List<Option<H::Event>>,
}

impl<H: Host> Irqs<H> {
    /// The number of vectors that MSI was enabled with; `None` if it is not.
    pub(in super::super) fn msi_vectors(&self) -> Option<u32> {
        match &self.active {
            Active::Messages(messages) if messages.kind == IrqKind::Msi => Some(messages.allocated),
            _ => None,
        }
    }

    /// SET_IRQS on MSI or MSI-X, action trigger.
    pub(super) fn set_messages(
        &mut self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        spec: Spec,
        request: &Request,
    ) -> Result<u32, Refusal> {
        match (&mut self.active, &request.data) {
            (Active::Messages(active), data) if active.kind == spec.kind => match data {
                Data::None if request.count == 0 => {
                    active.disable(host, spec.function);
                    self.active = Active::None;
                }
                Data::Events(events) => active.set_targets(host, ctx, spec, request.start, events)?,
                Data::None => active.trigger(host, request, |_| true),
                Data::Bools(bools) => {
                    active.trigger(host, request, |at| bools.get(at).is_some_and(|&bool| bool != 0))
                }
            },
            (Active::None, Data::Events(events)) => {
                return self.enable_messages(host, ctx, spec, request, events);
            }
            (Active::None, _) => return Err(rules::SET_IRQS_DISABLED),
            _ => return Err(rules::SET_IRQS_OTHER_KIND),
        }
        Ok(0)
    }

    fn enable_messages(
        &mut self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        spec: Spec,
        request: &Request,
        events: &List<i32>,
    ) -> Result<u32, Refusal> {
        let wanted = request.start.saturating_add(request.count);
        if wanted == 0 {
            return Err(rules::SET_IRQS_ZERO);
        }
        let mut targets = List::new();
        targets.reserve_many(host, spec.capacity as usize).map_err(|_| rules::NO_MEMORY)?;
        (0..spec.capacity).for_each(|_| targets.push_reserved(None));
        match host.vectors_enable(spec.function, spec.kind, wanted) {
            0 => return Err(rules::SET_IRQS_NO_VECTORS),
            available if available < wanted => return Ok(available),
            _ => {}
        }
        let mut messages = Messages { kind: spec.kind, allocated: wanted, targets };
        messages
            .set_targets(host, ctx, spec, request.start, events)
            .inspect_err(|_| messages.disable(host, spec.function))?;
        self.active = Active::Messages(messages);
        Ok(0)
    }
}

impl<H: Host> Messages<H> {
    /// No vector fires any more.
    pub(super) fn disable(&self, host: &H, function: Function) {
        for (vector, target) in (0..).zip(self.targets.iter()) {
            if target.is_some() {
                host.vector_set(function, self.kind, vector, None);
            }
        }
        host.vectors_disable(function, self.kind);
    }

    /// Says who is signalled for the vectors from `start` on; where one cannot be set, all up to it have no target.
    fn set_targets(
        &mut self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        spec: Spec,
        start: u32,
        events: &List<i32>,
    ) -> Result<(), Refusal> {
        for (vector, &fd) in (start..).zip(events.iter()) {
            let set = self.set_target(host, ctx, spec, vector, fd);
            set.inspect_err(|_| (start..vector).for_each(|earlier| self.clear_target(host, spec, earlier)))?;
        }
        Ok(())
    }

    fn set_target(
        &mut self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        spec: Spec,
        vector: u32,
        fd: i32,
    ) -> Result<(), Refusal> {
        self.clear_target(host, spec, vector);
        if fd < 0 {
            return Ok(());
        }
        if vector >= self.allocated && !spec.dynamic {
            return Err(rules::SET_IRQS_FIXED);
        }
        let event = find_event(ctx, fd)?;
        if let Some(target) = self.targets.get_mut(vector as usize) {
            host.vector_set(spec.function, self.kind, vector, Some(event.clone()));
            *target = Some(event);
        }
        Ok(())
    }

    fn clear_target(&mut self, host: &H, spec: Spec, vector: u32) {
        if let Some(target) = self.targets.get_mut(vector as usize)
            && target.take().is_some()
        {
            host.vector_set(spec.function, self.kind, vector, None);
        }
    }

    /// Signals the targets that a request chooses by their place in it, as if their vectors had fired.
    fn trigger(&self, host: &H, request: &Request, chosen: impl Fn(usize) -> bool) {
        let targets = self.targets.iter().skip(request.start as usize).take(request.count as usize);
        targets.enumerate().filter(|(at, _)| chosen(*at)).filter_map(|(_, target)| target.as_ref()).for_each(
            |target| {
                host.signal(target);
            },
        );
    }
}
