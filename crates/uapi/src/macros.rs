//! The macros by which the other files define the interface.
//!
//! Structures and constants pass through a macro so that each one also enters the tables of its
//! file, `STRUCTS` and `CONSTANTS`, from which [`crate::table`] is made. Whatever is defined is
//! thereby seen by the tests.

/// Defines structures of the interface, each with the size that C gives it.
macro_rules! structs {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident: $size:literal {
            $( $(#[$field_meta:meta])* pub $field:ident: $type:ty, )+
        }
    )+) => {
        $(
            $(#[$meta])*
            #[repr(C)]
            #[derive(
                Clone,
                Copy,
                Debug,
                Default,
                PartialEq,
                Eq,
                zerocopy::FromBytes,
                zerocopy::IntoBytes,
                zerocopy::Immutable,
                zerocopy::KnownLayout,
            )]
            pub struct $name {
                $( $(#[$field_meta])* pub $field: $type, )+
            }

            layout!($name, $size);
        )+

        /// The structures of this file.
        pub(crate) const STRUCTS: &[crate::table::Struct] = &[
            $(
                crate::table::Struct {
                    name: stringify!($name),
                    size: size_of::<$name>(),
                    fields: &[
                        $(
                            crate::table::Field {
                                name: stringify!($field),
                                offset: core::mem::offset_of!($name, $field),
                                size: size_of::<$type>(),
                            },
                        )+
                    ],
                },
            )+
        ];
    };
}

/// Fails the build if a structure has not the size that C gives it.
macro_rules! layout {
    ($name:ident, $size:literal) => {
        const _: () = assert!(size_of::<$name>() == $size);
    };
}

/// Defines numeric constants of the interface, ioctl numbers among them.
macro_rules! constants {
    ($( $(#[$meta:meta])* pub const $name:ident: $type:ident = $value:expr; )+) => {
        $( $(#[$meta])* pub const $name: $type = $value; )+

        /// The numeric constants of this file.
        pub(crate) const CONSTANTS: &[crate::table::Constant] = &[
            $(
                crate::table::Constant {
                    name: stringify!($name),
                    value: $name as u64,
                    bits: $type::BITS,
                },
            )+
        ];
    };
}

/// Makes a structure the argument of an ioctl.
///
/// Takes the structure, its ioctl number, the field that states the size and the least size that
/// the kernel accepts.
macro_rules! command {
    ($name:ident, $opcode:ident, $size_field:ident, min $min:literal) => {
        impl crate::Command for $name {
            const OPCODE: u32 = $opcode;
            const NAME: &'static str = stringify!($opcode);
            const MIN_SIZE: usize = $min;

            fn new() -> Self {
                Self { $size_field: size_of::<Self>() as u32, ..Self::default() }
            }

            fn stated_size(&self) -> usize {
                self.$size_field as usize
            }
        }

        // The stated size leads the structure, and the minimum covers at least that field.
        const _: () = assert!(core::mem::offset_of!($name, $size_field) == 0);
        const _: () = assert!($min >= 4 && $min <= size_of::<$name>());
    };
}

/// Marks a command as one that touches no memory but its own argument.
macro_rules! self_contained {
    ($name:ident) => {
        impl crate::command::Sealed for $name {}
        impl crate::SelfContained for $name {}
    };
}

/// Defines a function that names the ioctls of one kind of file.
macro_rules! ioctl_names {
    ($(#[$meta:meta])* pub fn $function:ident: $($name:ident),+ $(,)?) => {
        $(#[$meta])*
        pub const fn $function(opcode: u32) -> Option<&'static str> {
            match opcode {
                $( $name => Some(stringify!($name)), )+
                _ => None,
            }
        }
    };
}
