//! A simulation that outlives 213 days ends with an error that says so (design §9), not with a panic's backtrace.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::units::TOO_LONG;

static SILENCE: Once = Once::new();

/// A simulation whose time went beyond what a `u64` of picoseconds holds.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "{TOO_LONG}\nhint: a link, a solver or a think time is far too slow for this trace, or the trace too long for \
     this server: `--set trace.limit=500` keeps its first 500 requests"
)]
pub struct TooLong;

/// Runs a simulation, on this thread or on many.
///
/// # Errors
/// [`TooLong`]. Any other panic goes on.
pub fn within_213_days<T>(simulate: impl FnOnce() -> T) -> Result<T, TooLong> {
    SILENCE.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !is_too_long(info.payload()) {
                loud(info);
            }
        }));
    });
    // Nothing of a simulation that broke off is looked at again.
    panic::catch_unwind(AssertUnwindSafe(simulate)).or_else(|payload| {
        if is_too_long(&*payload) {
            return Err(TooLong);
        }
        panic::resume_unwind(payload)
    })
}

fn is_too_long(payload: &(dyn Any + Send)) -> bool {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.is_some_and(|text| text.contains(TOO_LONG))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{SimDuration, SimTime};

    #[test]
    fn only_time_beyond_213_days_becomes_an_error() {
        let late = SimTime::from_picos(u64::MAX);
        let error = within_213_days(|| late + SimDuration::from_picos(1)).unwrap_err();
        assert!(error.to_string().contains("213 days"), "{error}");
        assert_eq!(within_213_days(|| 5).unwrap(), 5);
    }

    #[test]
    #[should_panic(expected = "something else")]
    fn any_other_panic_goes_on() {
        let _ = within_213_days(|| panic!("something else"));
    }
}
