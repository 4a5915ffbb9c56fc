//! Debian's own kernel for virtual machines, and those of its modules that the guest needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{apt, clear};
use crate::run::{cache, run};
use crate::vm::kernels::{self, Choice};

/// What the guest needs: a disk for its answers, file systems, and the drivers that leave a device to programs.
const WANTED: [&str; 7] =
    ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "vfio_iommu_type1", "vfio_pci", "uio_pci_generic"];

/// Fetches the package through apt, and puts the kernel and the modules into the cache, at most once.
pub(super) fn install() -> Result<()> {
    let kernel = kernels::cache()?.join(Choice::Debian.image());
    if kernel.exists() {
        println!("kernel debian: {} is there already; without it, it is fetched anew", kernel.display());
        return Ok(());
    }
    let folder = kernel.with_file_name("");
    let work = cache()?.join("debian");
    fs::create_dir_all(&work)?;
    let package = apt::fetch_image(&work.join("apt")).context("cannot fetch Debian's own kernel")?;
    let contents = work.join("package");
    clear(&contents)?;
    run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&contents))?;

    let partial = folder.with_extension("partial");
    clear(&partial)?;
    fs::create_dir_all(partial.join("modules"))?;
    fs::copy(starting_with(&contents.join("boot"), "vmlinuz-")?, partial.join("vmlinuz"))?;
    let release = starting_with(&contents.join("lib/modules"), "")
        .or_else(|_| starting_with(&contents.join("usr/lib/modules"), ""))?;
    for (index, (name, bytes)) in Modules::of(&release)?.in_order(&WANTED)?.into_iter().enumerate() {
        fs::write(partial.join("modules").join(format!("{index:02}-{name}.ko")), bytes)?;
    }
    clear(&folder)?;
    fs::rename(&partial, &folder)?;
    fs::remove_dir_all(&work)?;
    println!("kernel debian: {}", kernel.display());
    Ok(())
}

/// The entry of a folder whose name starts so.
fn starting_with(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let found =
        paths.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
    found.with_context(|| format!("the package has no {}/{prefix}…", folder.display()))
}

/// The modules of a kernel. Their names have underscores where files may have dashes.
struct Modules {
    files: BTreeMap<String, PathBuf>,
    /// The text that names those that are part of the kernel.
    builtin: String,
}

impl Modules {
    fn of(release: &Path) -> Result<Self> {
        let list = release.join("modules.builtin");
        let builtin = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        let mut modules = Self { files: BTreeMap::new(), builtin };
        modules.enter(&release.join("kernel"))?;
        Ok(modules)
    }

    fn enter(&mut self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                self.enter(&path)?;
            } else if let Some(name) = name(&path) {
                self.files.insert(name, path);
            }
        }
        Ok(())
    }

    fn is_builtin(&self, wanted: &str) -> bool {
        self.builtin.lines().any(|line| name(Path::new(line)).as_deref() == Some(wanted))
    }

    /// Names and contents of modules and of those that they depend on, which come first.
    fn in_order(&self, wanted: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut ordered = Vec::new();
        for name in wanted.iter().filter(|name| !self.is_builtin(name)) {
            self.add(name, &mut ordered)?;
        }
        Ok(ordered)
    }

    fn add(&self, name: &str, ordered: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
        if ordered.iter().any(|(there, _)| there == name) {
            return Ok(());
        }
        let path = self.files.get(name).with_context(|| format!("the package has no module {name}"))?;
        let bytes = contents(path)?;
        for other in depends(&bytes) {
            self.add(&other, ordered)?;
        }
        ordered.push((name.to_owned(), bytes));
        Ok(())
    }
}

/// The name of a module, if the path is that of one.
fn name(path: &Path) -> Option<String> {
    let (name, _) = path.file_name()?.to_str()?.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

fn contents(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let mut unpack = Command::new("xz");
    unpack.args(["--decompress", "--stdout"]).arg(path).stdin(Stdio::null());
    let output = unpack.output().context("cannot start xz: install Debian's package xz-utils")?;
    ensure!(output.status.success(), "xz cannot unpack {}", path.display());
    Ok(output.stdout)
}

/// What a module says that it depends on: an entry `depends=one,two` among the texts of its section `.modinfo`.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else { return Vec::new() };
    let value = module[at + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_those_that_they_depend_on() {
        let root = std::env::temp_dir().join(format!("ioasis-modules-{}", std::process::id()));
        let file = |path: &str, depends: &str| {
            let path = root.join("kernel").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("\x7fELF\0license=GPL\0depends={depends}\0name=x\0")).unwrap();
        };
        file("drivers/vfio/pci/vfio-pci.ko", "vfio-pci-core,vfio");
        file("drivers/vfio/pci/vfio-pci-core.ko", "vfio");
        file("drivers/vfio/vfio.ko", "");
        fs::write(root.join("modules.builtin"), "kernel/drivers/virtio/virtio_blk.ko\n").unwrap();
        let modules = Modules::of(&root).unwrap();
        let names = |wanted: &[&str]| -> Result<Vec<String>> {
            Ok(modules.in_order(wanted)?.into_iter().map(|(name, _)| name).collect())
        };
        assert_eq!(
            names(&["virtio_blk", "vfio_pci", "vfio"]).unwrap(),
            ["vfio", "vfio_pci_core", "vfio_pci"]
        );
        assert!(names(&["ext4"]).unwrap_err().to_string().contains("ext4"));
        fs::remove_dir_all(&root).unwrap();
    }
}
