//! `ioasis nvme identify`

use anyhow::Result;
use indicatif::BinaryBytes;
use ioasis::{Device, Options, PciAddress, Sys};
use nvme::{Controller, Namespace};
use serde_json::json;

use crate::output::{passed_over_json, print_facts, print_json};
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
        let (mode, passed_over) = (controller.device().mode(), controller.device().passed_over());
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
                "passed_over": passed_over_json(passed_over),
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
        let cache = if info.volatile_write_cache { "yes" } else { "no" };
        let reached = [("controller", self.address.to_string()), ("mode", mode.to_string())]
            .into_iter()
            .chain(passed_over.iter().map(|better| ("passed over", better.to_string())));
        let facts = [
            ("model", info.model.clone()),
            ("serial", info.serial.clone()),
            ("firmware", info.firmware.clone()),
            ("NVMe version", version),
            ("largest transfer", BinaryBytes(info.max_transfer as u64).to_string()),
            ("queues", format!("{} pairs, up to {} deep", info.queues, info.max_depth)),
            ("volatile write cache", cache.to_owned()),
        ];
        let facts = reached.chain(facts).map(|(name, value)| (name.to_owned(), value));
        print_facts(facts.chain(namespaces.iter().map(describe)))
    }
}

fn describe(namespace: &Namespace) -> (String, String) {
    let &Namespace { id, blocks, block_size } = namespace;
    let bytes = BinaryBytes(blocks.saturating_mul(block_size as u64));
    (format!("namespace {id}"), format!("{blocks} blocks of {block_size} bytes, {bytes}"))
}
