//! The ordinary user that a command is run by.

use std::env;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::geteuid;

/// A user that is not root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The other groups.
    pub(super) groups: Vec<u32>,
    /// Name and home, where `/etc/passwd` has them.
    account: Option<(String, String)>,
}

impl User {
    /// Who the command is run by, with `told` from the command line; `None` is who runs this.
    ///
    /// Whoever is not root stays who he is. Root becomes who he was before `sudo`, or has to say whom.
    pub(super) fn choose(told: Option<&str>) -> Result<Option<Self>> {
        if !geteuid().is_root() {
            ensure!(told.is_none(), "--user is for root; the command is run by you");
            return Ok(None);
        }
        let before_sudo = || Some(format!("{}:{}", env::var("SUDO_UID").ok()?, env::var("SUDO_GID").ok()?));
        let Some(told) = told.map(str::to_owned).or_else(before_sudo) else {
            bail!(
                "this is run by root, and the command is to be run by an ordinary user: name one by --user NAME, or run \
                 this by sudo"
            );
        };
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::find(&told, &read("/etc/passwd"), &read("/etc/group")).map(Some)
    }

    /// By name or numbers, in the text of `/etc/passwd` and `/etc/group`.
    fn find(told: &str, passwd: &str, group: &str) -> Result<Self> {
        let (name, gid) = match told.split_once(':') {
            Some((name, gid)) => (name, Some(gid)),
            None => (told, None),
        };
        let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        // name:password:uid:gid:comment:home:shell
        let entry = passwd.lines().map(fields).find(|entry| {
            entry.len() > 5 && (entry[0] == name || (name.parse::<u32>().is_ok() && entry[2] == name))
        });
        let number = |text: &str| text.parse::<u32>().ok();
        let uid = entry.as_ref().map_or(name, |entry| &entry[2]);
        let uid = number(uid).with_context(|| {
            format!("/etc/passwd has no user {name:?}; one that it does not have is told as UID:GID")
        })?;
        let gid = gid.or(entry.as_ref().map(|entry| entry[3].as_str()));
        let gid = gid.with_context(|| {
            format!("/etc/passwd has no user {uid}: tell its group too, --user {uid}:GID")
        })?;
        let gid = number(gid).with_context(|| format!("{gid:?} is no number of a group"))?;
        ensure!(uid != 0, "the command is to be run by an ordinary user, and {told:?} is root");
        let account = entry.map(|entry| (entry[0].clone(), entry[5].clone()));
        // name:password:gid:members
        let member = |entry: &Vec<String>| match (&account, entry.get(3)) {
            (Some((name, _)), Some(members)) => members.split(',').any(|member| member == name),
            _ => false,
        };
        let groups = group.lines().map(fields).filter(member).filter_map(|entry| number(&entry[2])).collect();
        Ok(User { uid, gid, groups, account })
    }

    /// What only its numbers are known of.
    pub(super) fn numbers(uid: u32, gid: u32) -> Self {
        User { uid, gid, groups: Vec::new(), account: None }
    }

    /// The variables that tell programs who they are run by.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let account = self.account.iter();
        account.flat_map(|(name, home)| [("USER", name.as_str()), ("LOGNAME", name), ("HOME", home)])
    }
}

#[cfg(test)]
mod tests {
    use super::User;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000:Ada,,,:/home/ada:/bin/sh\n";
    const GROUP: &str = "root:x:0:\ndisk:x:6:bob,ada\nadams:x:7:adams\nada:x:1000:\n";

    fn find(told: &str) -> Result<User, String> {
        User::find(told, PASSWD, GROUP).map_err(|error| error.to_string())
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let account = Some(("ada".to_owned(), "/home/ada".to_owned()));
        let ada = User { uid: 1000, gid: 1000, groups: vec![6], account };
        for told in ["ada", "1000", "1000:1000", "ada:1000"] {
            assert_eq!(find(told), Ok(ada.clone()), "{told}");
        }
        assert_eq!(find("2000:100"), Ok(User::numbers(2000, 100)));
    }

    #[test]
    fn root_and_strangers_are_refused() {
        for (told, message) in [
            ("root", "\"root\" is root"),
            ("0", "\"0\" is root"),
            ("0:1000", "\"0:1000\" is root"),
            ("eve", "/etc/passwd has no user \"eve\""),
            ("", "/etc/passwd has no user \"\""),
            ("2000", "--user 2000:GID"),
            ("2000:staff", "\"staff\" is no number of a group"),
            ("-1:5", "no user \"-1\""),
        ] {
            let error = find(told).unwrap_err();
            assert!(error.contains(message), "{told}: {error}");
        }
    }
}
