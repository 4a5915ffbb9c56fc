//! `ioasis nvme identify`

use anyhow::Result;
use indicatif::BinaryBytes;
use ioasis::{Device, Options, PciAddress, Sys};
use nvme::Controller;
use serde_json::json;

use crate::output::{print, print_json, table};
use crate::system::Job;

pub(crate) struct Identify {
    pub(crate) address: PciAddress,
    pub(crate) json: bool,
}

impl Job for Identify {
    fn run<S: Sys>(self, sys: &S, options: &Options) -> Result<()> {
        let controller = Controller::new(Device::open(sys, self.address, options)?, 0)?;
        let info = controller.info();
        let namespaces = controller.namespaces()?;
        let mode = controller.device().mode();
        let (major, minor, tertiary) = info.version;
        let version = format!("{major}.{minor}.{tertiary}");
        if self.json {
            let namespaces: Vec<_> = namespaces
                .iter()
                .map(|n| json!({ "id": n.id, "blocks": n.blocks, "block_size": n.block_size }))
                .collect();
            return print_json(&json!({
                "address": self.address.to_string(),
                "mode": mode.name(),
                "model": info.model,
                "serial": info.serial,
                "firmware": info.firmware,
                "version": version,
                "vendor": info.vendor,
                "max_transfer": info.max_transfer,
                "max_depth": info.max_depth,
                "queues": info.queues,
                "volatile_write_cache": info.volatile_write_cache,
                "namespaces": namespaces,
            }));
        }
        let mut lines = table();
        let mut line = |name: &str, value: String| {
            lines.add_row([name, &value]);
        };
        line("controller", self.address.to_string());
        line("mode", mode.to_string());
        line("model", info.model.clone());
        line("serial", info.serial.clone());
        line("firmware", info.firmware.clone());
        line("NVMe version", version);
        line("largest transfer", BinaryBytes(info.max_transfer as u64).to_string());
        line("queues", format!("{} pairs, up to {} deep", info.queues, info.max_depth));
        line("volatile write cache", if info.volatile_write_cache { "yes" } else { "no" }.to_owned());
        for namespace in &namespaces {
            let bytes = namespace.blocks * namespace.block_size as u64;
            line(
                &format!("namespace {}", namespace.id),
                format!(
                    "{} blocks of {} bytes, {}",
                    namespace.blocks,
                    namespace.block_size,
                    BinaryBytes(bytes)
                ),
            );
        }
        print(&format!("{}\n", lines.trim_fmt()))
    }
}
