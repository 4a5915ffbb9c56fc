//! The distribution's packages of Linux, source and image, found and fetched by apt.
//!
//! apt runs on a configuration and state of its own below the cache: the system's stay as they are, no rights are needed, and apt
//! checks signatures and hashes as always. The mirror and its keyring are those of the system's own sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::version::Version;
use crate::run::run;

/// Where apt's sources are described.
const SOURCES: &str = "/etc/apt";

/// Where a release that has only older kernels finds the package. Debian 13 is the first that got Linux 7.3; its backports are
/// named as such, too, since mirrors refresh the names that move (`stable-…`) less often.
const NEWER: [&str; 5] = ["trixie-backports", "stable-backports", "testing", "unstable", "experimental"];

/// An archive that the system installs packages from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    uris: String,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// Names the package of the current kernel for virtual machines.
const IMAGE: &str = "linux-image-cloud-amd64";

/// Fetches the package of the release's own kernel for virtual machines into `folder`; the package file's path.
pub(super) fn fetch_image(folder: &Path) -> Result<PathBuf> {
    let codename = codename()?;
    let source = system_source(&codename)?;
    println!("Debian {codename}, packages from {}", source.uris);
    let apt = Apt::new(folder)?;
    apt.newest_lists(&source, &codename)?;
    let package = apt.image()?;
    println!("fetching {package} (about 30 MB)");
    apt.download(&package)
}

/// Fetches the package `linux-source` of the lowest version from `least` on into `folder`; the package file's path.
pub(super) fn fetch_source(folder: &Path, least: Version) -> Result<PathBuf> {
    let codename = codename()?;
    let source = system_source(&codename)?;
    println!("Debian {codename}, packages from {}", source.uris);
    let apt = Apt::new(folder)?;
    let backports = format!("{codename}-backports");
    let mut suites = vec![codename.as_str(), &backports];
    suites.extend(NEWER.iter().filter(|suite| **suite != backports));
    for suite in &suites {
        println!("looking for linux-source {least} or newer in {suite}");
        match apt.newest_lists(&source, suite) {
            Ok(()) => {}
            Err(error) => {
                println!("  {suite} cannot be used: {error:#}");
                continue;
            }
        }
        if let Some(package) = apt.source(least)? {
            println!("fetching {package} (about 150 MB)");
            return apt.download(&package);
        }
    }
    bail!("none of {} at {} has linux-source {least} or newer", suites.join(", "), source.uris)
}

/// The release's name, of a system that is Debian.
fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let value =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim_matches('"'));
    ensure!(value("ID=") == Some("debian"), "this system is not Debian");
    Ok(value("VERSION_CODENAME=").context("/etc/os-release names no release")?.to_owned())
}

/// The first source of the release's own suite.
fn system_source(codename: &str) -> Result<Source> {
    let mut files = vec![Path::new(SOURCES).join("sources.list")];
    if let Ok(entries) = fs::read_dir(Path::new(SOURCES).join("sources.list.d")) {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    for file in files.iter().filter(|file| file.exists()) {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let sources = match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => stanzas(&text),
            Some("list") => text.lines().filter_map(one_line).collect(),
            _ => continue,
        };
        let has = |words: &[String], word: &str| words.iter().any(|it| it == word);
        let found = sources.into_iter().find(|it| has(&it.suites, codename) && has(&it.components, "main"));
        if let Some(source) = found {
            return Ok(source);
        }
    }
    bail!("no source of {codename} main in {SOURCES}")
}

/// `deb [options] uri suite component…` (sources.list(5)).
fn one_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: words.next()?,
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: signed_by.map(str::to_owned),
    })
}

/// Stanzas of `Field: value` lines, where a line that starts with a blank goes on with the field before it (sources.list(5)).
fn stanzas(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).filter_map(stanza).collect()
}

fn stanza(lines: &[&str]) -> Option<Source> {
    let field = |name: &str| -> Option<String> {
        let starts = |line: &&str| {
            line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name))
                && !line.starts_with(' ')
        };
        let at = lines.iter().position(starts)?;
        let mut value = lines[at].split_once(':')?.1.trim().to_owned();
        for line in lines[at + 1..].iter().take_while(|line| line.starts_with([' ', '\t'])) {
            value.push('\n');
            value.push_str(line);
        }
        Some(value)
    };
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let enabled = field("Enabled").is_none_or(|value| !value.eq_ignore_ascii_case("no"));
    if !enabled || !words(field("Types")?).iter().any(|kind| kind == "deb") {
        return None;
    }
    Some(Source {
        uris: field("URIs")?,
        suites: words(field("Suites")?),
        components: words(field("Components")?),
        signed_by: field("Signed-By"),
    })
}

/// apt with a state of its own.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self> {
        let apt = Self { folder: folder.to_owned() };
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::create_dir_all(folder.join("cache/archives/partial"))?;
        fs::write(folder.join("status"), "")?;
        let path = |name: &str| folder.join(name).display().to_string();
        // Hooks are the system's business, and so is the user that apt changes to.
        let settings = format!(
            "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n\
             APT::Sandbox::User \"\";\nAcquire::Languages \"none\";\nDir::Etc::SourceList \"{}\";\nDir::Etc::SourceParts \
             \"/dev/null\";\nDir::State::Lists \"{}\";\nDir::State::status \"{}\";\nDir::Cache \"{}\";\n",
            path("list.sources"),
            path("lists"),
            path("status"),
            path("cache")
        );
        fs::write(apt.settings(), settings)?;
        Ok(apt)
    }

    fn settings(&self) -> PathBuf {
        self.folder.join("apt.conf")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("--config-file").arg(self.settings()).current_dir(&self.folder).env("LC_ALL", "C");
        command
    }

    /// Fetches the package list of one suite.
    fn newest_lists(&self, source: &Source, suite: &str) -> Result<()> {
        let signed_by = source.signed_by.as_ref().map(|it| format!("Signed-By: {it}\n")).unwrap_or_default();
        let text = format!(
            "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\nTargets: Packages\n{signed_by}",
            source.uris
        );
        fs::write(self.folder.join("list.sources"), text)?;
        run(self.command("apt-get").args(["-qq", "-o", "APT::Update::Error-Mode=any", "update"]))
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        let output = self.command("apt-cache").args(words).output()?;
        ensure!(
            output.status.success(),
            "apt-cache failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The package `linux-source` of the lowest version from `least` on.
    fn source(&self, least: Version) -> Result<Option<String>> {
        Ok(lowest(&self.ask(&["pkgnames", "linux-source-"])?, least))
    }

    /// The package that [`IMAGE`] stands for.
    fn image(&self) -> Result<String> {
        let answer = self.ask(&["depends", "--important", IMAGE])?;
        let mut names = answer.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let name = names.find(|name| name.starts_with("linux-image-"));
        name.map(str::to_owned).with_context(|| format!("{IMAGE} depends on no kernel"))
    }

    fn download(&self, package: &str) -> Result<PathBuf> {
        run(self.command("apt-get").args(["download", package]))?;
        let prefix = format!("{package}_");
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                return Ok(entry.path());
            }
        }
        bail!("apt-get has fetched {package}, yet it is not in {}", self.folder.display())
    }
}

/// Of the names of packages the one with the lowest version from `least` on.
fn lowest(names: &str, least: Version) -> Option<String> {
    let version = |name: &&str| Version::parse(name.strip_prefix("linux-source-")?);
    let enough = names.lines().filter(|name| version(name).is_some_and(|found| found >= least));
    enough.min_by_key(version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_sources_are_read() {
        let old =
            one_line("deb [arch=amd64 signed-by=/k.gpg] http://m/debian trixie main contrib # ours").unwrap();
        let new = "# system\nTypes: deb deb-src\nURIs: http://m/debian\nSuites: trixie\nComponents: main contrib\nSigned-By: \
                   /k.gpg\n\nEnabled: no\nTypes: deb\nURIs: http://off\nSuites: trixie\nComponents: main\n";
        assert_eq!(stanzas(new), [old]);
        assert_eq!(one_line("deb-src http://m/debian trixie main"), None);
        assert_eq!(one_line("# deb http://m/debian trixie main"), None);
    }

    #[test]
    fn an_embedded_key_stays_whole() {
        let text =
            "Types: deb\nURIs: http://m\nSuites: a b\nComponents: main\nSigned-By:\n -----BEGIN\n .\n xyz\n";
        let sources = stanzas(text);
        assert_eq!(sources[0].suites, ["a", "b"]);
        assert_eq!(sources[0].signed_by.as_deref(), Some("\n -----BEGIN\n .\n xyz"));
    }

    #[test]
    fn the_lowest_version_that_is_enough_is_taken() {
        let names = "linux-source-6.12\nlinux-source-7.10\nlinux-source-7.4\nlinux-source-rt\n";
        assert_eq!(lowest(names, Version::new(7, 3)).as_deref(), Some("linux-source-7.4"));
        assert_eq!(lowest("linux-source-6.12\n", Version::new(7, 3)), None);
    }
}
