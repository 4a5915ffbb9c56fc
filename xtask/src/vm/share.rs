//! The folder that host and guest share, and what passes through it; `vm/init` is the other side. A guest that cannot mount
//! it finds what it is to do in its own file system, prints through serial ports, and answers on a disk.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::initramfs::Placed;
use super::machine::Device;
use crate::run::run;

/// What tells the guest what to do.
const ORDERS: [&str; 3] = ["bind", "command", "fetch"];
/// More than a guest sends back; only what it does takes room.
const DISK_BYTES: u64 = 16 << 30;

/// A file of the guest that the host wants, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) guest: String,
    pub(crate) host: PathBuf,
}

/// The shared folder.
pub(crate) struct Share {
    folder: PathBuf,
}

impl Share {
    /// Fills a new folder with what the guest is to do.
    pub(crate) fn new(
        folder: PathBuf,
        bind: &[Device],
        command: &[impl AsRef<OsStr>],
        wanted: &[Wanted],
    ) -> Result<Self> {
        fs::create_dir_all(folder.join("fetched"))?;
        fs::write(folder.join("bind"), lines(bind.iter().flat_map(|device| device.addresses()).copied()))?;
        fs::write(folder.join("command"), script(command))?;
        fs::write(folder.join("fetch"), lines(wanted.iter().map(|file| file.guest.as_str())))?;
        for stream in ["stdout", "stderr"] {
            File::create(folder.join(stream))?;
        }
        Ok(Self { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// What the command prints, from its beginning on.
    pub(crate) fn stream(&self, name: &str) -> io::Result<File> {
        File::open(self.folder.join(name))
    }

    /// What tells the guest what to do, for a guest that cannot mount the folder.
    pub(crate) fn orders(&self) -> impl Iterator<Item = Placed> {
        ORDERS
            .iter()
            .map(|name| Placed { host: self.folder.join(name), guest: Path::new("/host").join(name) })
    }

    /// A disk for the answers of such a guest.
    pub(crate) fn make_disk(&self) -> Result<PathBuf> {
        let path = self.folder.join("disk");
        File::create(&path)?.set_len(DISK_BYTES)?;
        Ok(path)
    }

    /// Takes the answers from the disk, if they are there: it holds an archive, or zeroes.
    pub(crate) fn collect(&self, disk: Option<&Path>) -> Result<()> {
        let Some(disk) = disk else { return Ok(()) };
        run(Command::new("tar").arg("--extract").arg("--file").arg(disk).arg("--directory").arg(&self.folder))
    }

    /// The command's exit status; none when the guest ended otherwise. An error when the init refused.
    pub(crate) fn status(&self) -> Result<Option<u8>> {
        if let Some(failure) = self.text("failure")? {
            bail!("the guest did not run the command: {failure}");
        }
        let Some(status) = self.text("status")? else { return Ok(None) };
        Ok(Some(status.parse().with_context(|| format!("the guest wrote {status:?} as exit status"))?))
    }

    fn text(&self, name: &str) -> io::Result<Option<String>> {
        match fs::read_to_string(self.folder.join(name)) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts the files that the guest handed back where they belong.
    pub(crate) fn fetch(&self, wanted: &[Wanted]) -> Result<()> {
        for (index, file) in wanted.iter().enumerate() {
            let fetched = self.folder.join("fetched").join(index.to_string());
            if !fetched.exists() {
                bail!("the guest has no file {}", file.guest);
            }
            fs::copy(&fetched, &file.host)
                .with_context(|| format!("cannot copy {} to {}", file.guest, file.host.display()))?;
        }
        Ok(())
    }
}

fn lines<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.map(|item| format!("{item}\n")).collect()
}

/// A shell script that becomes the command, each word quoted.
fn script(command: &[impl AsRef<OsStr>]) -> Vec<u8> {
    let mut script = b"exec".to_vec();
    for word in command {
        script.extend_from_slice(b" '");
        for &byte in word.as_ref().as_bytes() {
            match byte {
                b'\'' => script.extend_from_slice(b"'\\''"),
                byte => script.push(byte),
            }
        }
        script.push(b'\'');
    }
    script.push(b'\n');
    script
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_shell_sees_the_words_as_given() {
        let words = ["printf", "%s|", "a b", "it's", "$HOME \\ \"x\"", "", "two\nlines"];
        let output = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script(&words))).output().unwrap();
        assert_eq!(output.stdout, b"a b|it's|$HOME \\ \"x\"||two\nlines|");
    }

    #[test]
    fn the_guests_answers_are_told_apart() {
        let folder = std::env::temp_dir().join(format!("ioasis-share-{}", std::process::id()));
        let wanted = [Wanted { guest: "/tmp/out".into(), host: folder.join("copy") }];
        let share = Share::new(folder.clone(), &[Device::Edu, Device::Nvme], &["true"], &wanted).unwrap();
        assert_eq!(fs::read_to_string(folder.join("bind")).unwrap(), "0000:00:03.0\n0000:00:04.0\n");

        assert_eq!(share.status().unwrap(), None);
        fs::write(folder.join("status"), "7\n").unwrap();
        assert_eq!(share.status().unwrap(), Some(7));
        fs::write(folder.join("failure"), "there is no device\n").unwrap();
        assert!(share.status().unwrap_err().to_string().ends_with("there is no device"));

        assert!(share.fetch(&wanted).unwrap_err().to_string().contains("/tmp/out"));
        fs::write(folder.join("fetched/0"), "result").unwrap();
        share.fetch(&wanted).unwrap();
        assert_eq!(fs::read_to_string(folder.join("copy")).unwrap(), "result");
        fs::remove_dir_all(&folder).unwrap();
    }
}
