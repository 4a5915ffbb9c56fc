//! The packets.

use uapi::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The length of a packet in both directions.
pub(super) const SIZE: usize = 32;
/// Room for a packet, and one byte by which a longer one shows.
pub(super) const ROOM: usize = SIZE + 1;
/// The physical address behind an IOVA is asked for.
pub(super) const GET_PA: u32 = 1;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Request {
    pub(super) what: u32,
    pub(super) ioas: u32,
    pub(super) iova: u64,
    pub(super) length: u64,
    pub(super) tag: u64,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Answer {
    pub(super) errno: u32,
    pub(super) zero: u32,
    pub(super) address: u64,
    pub(super) length: u64,
    pub(super) tag: u64,
}

const _: () = assert!(size_of::<Request>() == SIZE && size_of::<Answer>() == SIZE);

impl Answer {
    /// The translator is ready.
    pub(super) const READY: Answer = Answer { errno: 0, zero: 0, address: 0, length: 0, tag: 0 };

    fn new(outcome: Result<(u64, u64), Errno>, tag: u64) -> Self {
        match outcome {
            Ok((address, length)) => Answer { address, length, tag, ..Self::READY },
            Err(errno) => Answer { errno: errno.raw().cast_unsigned(), tag, ..Self::READY },
        }
    }

    /// Answers a packet. `own` tells whether it is from the process that is served, `translate` asks the kernel.
    pub(super) fn to(
        packet: &[u8],
        own: bool,
        translate: impl FnOnce(&Request) -> Result<(u64, u64), Errno>,
    ) -> Self {
        let Ok(request) = Request::read_from_bytes(packet) else {
            return Self::new(Err(Errno::EMSGSIZE), 0);
        };
        let outcome = match request.what {
            _ if !own => Err(Errno::EPERM),
            GET_PA => translate(&request),
            _ => Err(Errno::EOPNOTSUPP),
        };
        Self::new(outcome, request.tag)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(length: usize) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), length)
    }

    proptest! {
        #[test]
        fn the_kernel_is_asked_exactly_what_a_good_request_says(ioas: u32, iova: u64, length: u64, tag: u64, answer: (u64, u64)) {
            let request = Request { what: GET_PA, ioas, iova, length, tag };
            let mut asked = None;
            let got = Answer::to(request.as_bytes(), true, |request| {
                asked = Some(*request);
                Ok(answer)
            });
            prop_assert_eq!(asked, Some(request));
            prop_assert_eq!(got, Answer { errno: 0, zero: 0, address: answer.0, length: answer.1, tag });
        }

        #[test]
        fn packets_of_other_lengths_never_reach_the_kernel(packet in (0..ROOM + 1).prop_flat_map(bytes), own: bool) {
            prop_assume!(packet.len() != SIZE);
            let answer = Answer::to(&packet, own, |_| panic!("the kernel was asked"));
            prop_assert_eq!((answer.errno, answer.tag), (90, 0));
        }

        #[test]
        fn other_requests_never_reach_the_kernel(packet in bytes(SIZE), own: bool) {
            let request = Request::read_from_bytes(&packet).unwrap();
            prop_assume!(!own || request.what != GET_PA);
            let answer = Answer::to(&packet, own, |_| panic!("the kernel was asked"));
            prop_assert_eq!((answer.errno, answer.tag), (if own { 95 } else { 1 }, request.tag));
        }

        #[test]
        fn a_refusal_of_the_kernel_is_passed_on(errno in 1..4096, tag: u64) {
            let request = Request { what: GET_PA, ioas: 1, iova: 2, length: 3, tag };
            let answer = Answer::to(request.as_bytes(), true, |_| Err(Errno::from_raw(errno).unwrap()));
            let errno = errno.cast_unsigned();
            prop_assert_eq!(answer, Answer { errno, zero: 0, address: 0, length: 0, tag });
        }
    }

    #[test]
    fn the_layout_is_as_documented() {
        let request = Request { what: 1, ioas: 2, iova: 3, length: 4, tag: 5 };
        let words = [1 | 2 << 32, 3, 4, 5_u64].map(u64::to_le_bytes).concat();
        assert_eq!(request.as_bytes(), words);
        let answer = Answer { errno: 1, zero: 0, address: 3, length: 4, tag: 5 };
        assert_eq!(answer.as_bytes(), [1, 3, 4, 5_u64].map(u64::to_le_bytes).concat());
    }
}
