//! What a refused system call tells.

use std::fmt;

use uapi::Errno;

/// The rule that a call broke: known where the embedded subsystem answered, which names each refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Short name, such as `bind.already-bound`.
    pub name: &'static str,
    /// The rule in one sentence.
    pub sentence: &'static str,
}

impl Rule {
    /// Whether the call is refused because a part of the system does not exist yet, and not for what it asks.
    #[must_use]
    pub fn is_not_built(self) -> bool {
        self.name.ends_with(".not-built")
    }
}

/// What is wrong with the call, in words that follow the errno.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A rule says what has to be so, except where it says that a part is not there.
        let lead = if self.is_not_built() { "" } else { "breaks the rule " };
        write!(f, "{lead}{}: {}", self.name, self.sentence)
    }
}

/// A refused system call: what was attempted, on which object, and the answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    call: &'static str,
    object: String,
    errno: Errno,
    rule: Option<Rule>,
}

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// `call` (such as `open` or `IOMMU_IOAS_MAP`) on `object` was refused with `errno`.
    pub fn new(call: &'static str, object: impl fmt::Display, errno: Errno) -> Self {
        Error(Box::new(Parts { call, object: object.to_string(), errno, rule: None }))
    }

    /// The same, with the rule that was broken.
    #[must_use]
    pub fn with_rule(mut self, rule: Rule) -> Self {
        self.0.rule = Some(rule);
        self
    }

    /// The system call or ioctl that was refused.
    #[must_use]
    pub fn call(&self) -> &'static str {
        self.0.call
    }

    /// What it was made on: a path, mostly.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// The answer.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.0.errno
    }

    /// The rule that was broken, where the system names it.
    #[must_use]
    pub fn rule(&self) -> Option<Rule> {
        self.0.rule
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { call, object, errno, rule } = &*self.0;
        write!(f, "{call} on {object}: {errno}")?;
        match rule {
            Some(rule) => write!(f, ": {rule}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use uapi::Errno;

    use super::{Error, Rule};

    #[test]
    fn a_message_names_call_object_errno_and_rule() {
        let error = Error::new("open", "/dev/iommu", Errno::EACCES);
        assert_eq!(error.to_string(), "open on /dev/iommu: EACCES (permission denied)");
        let rule = Rule { name: "bind.already-bound", sentence: "a device is bound once" };
        let error = Error::new("VFIO_DEVICE_BIND_IOMMUFD", "vfio0", Errno::EINVAL).with_rule(rule);
        assert_eq!(
            error.to_string(),
            "VFIO_DEVICE_BIND_IOMMUFD on vfio0: EINVAL (invalid argument): \
             breaks the rule bind.already-bound: a device is bound once"
        );
        assert_eq!((error.errno(), error.rule()), (Errno::EINVAL, Some(rule)));
        let rule = Rule { name: "group.not-built", sentence: "groups are not built yet" };
        assert_eq!(rule.to_string(), "group.not-built: groups are not built yet");
    }
}
