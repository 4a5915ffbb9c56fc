//! Arguments that are nearly right, with random bytes in them: always an answer, never a panic, and nothing is left
//! in the end.

use proptest::prelude::*;
use proptest::sample::select;
use subsystem::iommufd::Binding;
use subsystem::iommufd::DeviceObject;
use subsystem::{Function, UserMemory};
use uapi::Errno;
use uapi::iommufd::*;
use uapi::iommufd_test::{IOMMU_TEST_CMD, MOCK_APERTURE_START};
use uapi::vfio::VFIO_CHECK_EXTENSION;

use crate::client::{BUFFER, Client, pages};
use crate::selftest::with_tests;
use crate::support::host::{ARGUMENT, Descriptor, TestHost};
use crate::support::memory::Layout;

const CALLS: usize = 100;
const SEQUENCES: u32 = 1250;

/// What a field of an argument holds, if it holds something sensible.
#[derive(Clone, Copy)]
enum Field {
    Zero,
    Id,
    /// Some of FIXED_IOVA, WRITEABLE and READABLE.
    Flags,
    /// A small number: an operation, a count, a descriptor.
    Few,
    /// An operation of the self-tests.
    Test,
    /// The fields from here on are 64 bits wide.
    Iova,
    Length,
    Address,
    Wide,
}
use Field::{Address, Few, Flags, Id, Iova, Length, Test, Wide, Zero};

/// The fields of each command, behind the size.
const SHAPES: &[(u32, &[Field])] = &[
    (IOMMU_DESTROY, &[Id]),
    (IOMMU_IOAS_ALLOC, &[Zero, Zero]),
    (IOMMU_IOAS_ALLOW_IOVAS, &[Id, Few, Zero, Address]),
    (IOMMU_IOAS_COPY, &[Flags, Id, Id, Length, Iova, Iova]),
    (IOMMU_IOAS_IOVA_RANGES, &[Id, Few, Zero, Address, Wide]),
    (IOMMU_IOAS_MAP, &[Flags, Id, Zero, Address, Length, Iova]),
    (IOMMU_IOAS_UNMAP, &[Id, Iova, Length]),
    (IOMMU_OPTION, &[Few, Few, Id, Wide]),
    (IOMMU_VFIO_IOAS, &[Id, Few]),
    (IOMMU_HWPT_ALLOC, &[Zero, Id, Id, Zero, Zero, Zero, Zero, Wide, Zero, Zero]),
    (IOMMU_GET_HW_INFO, &[Zero, Id, Few, Address, Few, Zero, Wide]),
    (IOMMU_HWPT_SET_DIRTY_TRACKING, &[Zero, Id, Zero]),
    (IOMMU_HWPT_GET_DIRTY_BITMAP, &[Id, Zero, Zero, Iova, Length, Length, Address]),
    (IOMMU_HWPT_INVALIDATE, &[Id, Address, Few, Few, Few, Zero]),
    (IOMMU_IOAS_MAP_FILE, &[Flags, Id, Few, Iova, Length, Iova]),
    (IOMMU_VIOMMU_ALLOC, &[Zero, Few, Id, Id, Zero, Few, Zero, Address]),
    (IOMMU_VDEVICE_ALLOC, &[Id, Id, Zero, Wide]),
    (IOMMU_IOAS_CHANGE_PROCESS, &[Zero]),
    (IOMMU_VEVENTQ_ALLOC, &[Zero, Id, Few, Few, Zero, Zero, Zero]),
    (IOMMU_HW_QUEUE_ALLOC, &[Zero, Id, Few, Few, Zero, Iova, Length]),
    (IOMMU_IOAS_NOIOMMU_GET_PA, &[Zero, Id, Zero, Iova, Length, Wide]),
    (IOMMU_TEST_CMD, &[Test, Id, Zero, Iova, Length, Address, Wide, Wide, Wide, Zero, Zero]),
];

/// The words of the longest argument.
const WORDS: usize = 18;

/// How often each command comes: those that work on memory more often, those that destroy less.
fn weight(command: u32) -> u32 {
    match command {
        IOMMU_IOAS_MAP | IOMMU_IOAS_COPY => 8,
        IOMMU_IOAS_MAP_FILE | IOMMU_IOAS_NOIOMMU_GET_PA | IOMMU_IOAS_UNMAP => 4,
        IOMMU_DESTROY | IOMMU_IOAS_ALLOC => 1,
        _ => 2,
    }
}

/// The words of a field.
fn field(field: Field) -> BoxedStrategy<Vec<u32>> {
    let narrow = |value: u32| vec![value];
    let wide = |value: u64| vec![value as u32, (value >> 32) as u32];
    match field {
        Zero => Just(narrow(0)).boxed(),
        Id => (1_u32..4).prop_map(narrow).boxed(),
        Flags => select(vec![1, 2, 3, 4, 5, 6, 6, 7, 7, 7, 7]).prop_map(narrow).boxed(),
        Few => (0_u32..4).prop_map(narrow).boxed(),
        Test => (0_u32..24).prop_map(narrow).boxed(),
        Iova => (select(vec![0, 0, 0, MOCK_APERTURE_START]), 0_u64..8)
            .prop_map(move |(base, count)| wide(u64::from(base) + pages(count)))
            .boxed(),
        Length => (1_u64..6).prop_map(move |count| wide(pages(count))).boxed(),
        Address => (0_u64..64).prop_map(move |count| wide(BUFFER + pages(count))).boxed(),
        Wide => (0_u64..3).prop_map(wide).boxed(),
    }
}

/// A word that makes an argument wrong, or only different.
fn odd_word() -> impl Strategy<Value = u32> {
    prop_oneof![0_u32..64, Just(u32::MAX), Just(0x8000_0000), select(vec![0x10, 0x1010, 0xfff]), any::<u32>()]
}

/// Something that is done to a context.
#[derive(Clone, Debug)]
enum Action {
    /// An ioctl with words at an address.
    Ioctl {
        command: u32,
        words: Vec<u32>,
        address: u64,
    },
    Bind(usize),
    Unbind(usize),
    Attach(usize, u32),
    Detach(usize),
}

fn ioctl() -> impl Strategy<Value = Action> {
    let sensible = SHAPES.iter().map(|&(command, fields)| {
        let words = fields.iter().copied().map(field).collect::<Vec<_>>().prop_map(|fields| {
            let words = fields.concat();
            [vec![4 + 4 * u32::try_from(words.len()).unwrap()], words].concat()
        });
        (weight(command), words.prop_map(move |words| (command, words)).boxed())
    });
    let sensible = prop::strategy::Union::new_weighted(sensible.collect());
    let oddities = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec((0..WORDS, odd_word()), 1..3),
    ];
    let command = prop_oneof![60 => Just(None), 1 => (0x3b60_u32..0x3bb0).prop_map(Some), 1 => any::<u32>().prop_map(Some)];
    let address = prop_oneof![60 => Just(ARGUMENT), 1 => Just(ARGUMENT + 4096 - 32), 1 => any::<u64>()];
    (sensible, oddities, command, address).prop_map(|((known, mut words), oddities, command, address)| {
        words.resize(WORDS, 0);
        for (at, word) in oddities {
            words[at] = word;
        }
        Action::Ioctl { command: command.unwrap_or(known), words, address }
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        40 => ioctl(),
        1 => (0_usize..3).prop_map(Action::Bind),
        1 => (0_usize..3).prop_map(Action::Unbind),
        3 => (0_usize..3, 0_u32..9).prop_map(|(function, id)| Action::Attach(function, id)),
        1 => (0_usize..3).prop_map(Action::Detach),
    ]
}

/// Whether a context knows it. Two commands, which open files, are left to whoever has the files.
fn is_command(number: u32) -> bool {
    ((0x3b80..=0x3b95).contains(&number) && !matches!(number, IOMMU_FAULT_QUEUE_ALLOC | IOMMU_VEVENTQ_ALLOC))
        || number == IOMMU_TEST_CMD
}

/// Does an action as VFIO may: a function is bound once, and only what is bound is attached.
fn act(client: &Client<'_>, bound: &mut [Option<DeviceObject>; 3], action: &Action) {
    match action {
        Action::Ioctl { command, words, address } => {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            client.caller.write(ARGUMENT, &bytes).unwrap();
            client.caller.write(ARGUMENT + 4096 - 32, &bytes[..32]).unwrap();
            match client.context.ioctl(client.host, &client.caller.ctx(), *command, *address) {
                Ok(answer) => assert!(answer == 0 || (answer == 1 && *command == VFIO_CHECK_EXTENSION)),
                Err(refusal) => assert!(
                    refusal.errno() != Errno::ENOTTY || !is_command(*command),
                    "{command:#x} is a command"
                ),
            }
        }
        Action::Bind(function) => {
            let slot = &mut bound[*function];
            if slot.is_none() {
                *slot = client.context.bind(client.host, Function(*function as u32), Binding::Noiommu).ok();
            }
        }
        Action::Unbind(function) => {
            if let Some(device) = bound[*function].take() {
                client.context.unbind(client.host, device);
            }
        }
        Action::Attach(function, id) => {
            let Some(device) = bound[*function] else { return };
            if let Ok(hwpt) = client.attach(device, *id) {
                assert_eq!(client.attach(device, hwpt), Ok(hwpt));
            }
        }
        Action::Detach(function) => {
            if let Some(device) = bound[*function] {
                client.detach(device);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: SEQUENCES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_arguments(
        actions in prop::collection::vec(action(), CALLS),
        limit in prop::option::of(0_u64..40),
    ) {
        let host = TestHost::new();
        let mut client = Client::configured(&host, with_tests());
        client.memory(BUFFER, 40, Layout::Scattered);
        client.memory(BUFFER + pages(44), 20, Layout::Contiguous);
        // For ALLOW_IOVAS: up to three ranges at the begin of the buffer.
        let ranges = [0_u64, pages(8) - 1, pages(10), pages(30), u64::MAX / 2, u64::MAX];
        client.caller.write(BUFFER, &ranges.map(u64::to_le_bytes).concat()).unwrap();
        for file in host.ram(|ram| [ram.new_memfd(pages(16), Layout::Contiguous), ram.new_disk_file()]) {
            client.caller.install(Descriptor::File(file));
        }
        if let Some(limit) = limit {
            client.limit(limit);
        }
        let mut bound = [Some(client.bind()), None, None];
        client.ioas();
        for action in &actions {
            act(&client, &mut bound, action);
        }
        client.close();
    }
}
