//! A simulation that outlives 213 days ends with an error that says so (design §9), not with a panic's backtrace.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::units::TOO_LONG;

static SILENCE: Once = Once::new();

/// A simulation whose time went beyond what a `u64` of picoseconds holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}{TOO_LONG}\nhint: a link, a solver or a think time is far too slow for this trace, or the trace too long for \
     this server: `--set trace.limit=500` keeps its first 500 requests{}",
    whose(.policies),
    remedy(.policies)
)]
pub struct TooLong {
    /// Keys of the policies whose runs did, in the order of the comparison, each once; empty: not known.
    pub policies: Vec<String>,
}

fn whose(policies: &[String]) -> String {
    if policies.is_empty() { String::new() } else { format!("{}: ", policies.join(", ")) }
}

fn remedy(policies: &[String]) -> &'static str {
    if policies.is_empty() { "" } else { "; or leave what stands before the colon out of `policies`" }
}

/// Runs a simulation, on this thread or on many.
///
/// # Errors
/// [`TooLong`], with the policies if the simulation was a [`super::compare`] or [`super::check`]. Any other panic goes on.
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
    panic::catch_unwind(AssertUnwindSafe(simulate)).or_else(|payload| match payload.downcast::<TooLong>() {
        Ok(named) => Err(*named),
        Err(payload) if is_too_long(&*payload) => Err(TooLong::default()),
        Err(payload) => panic::resume_unwind(payload),
    })
}

/// The results of runs, each of a policy's, in order. If any run outlived time this unwinds, for [`within_213_days`] to
/// catch, with the keys of all policies of which one did: not only of whichever thread was first.
pub(super) fn all_within<T>(runs: Vec<(&str, Result<T, TooLong>)>) -> Vec<T> {
    let mut beyond = TooLong::default();
    for (key, _) in runs.iter().filter(|(_, run)| run.is_err()) {
        if !beyond.policies.iter().any(|named| named == key) {
            beyond.policies.push((*key).to_owned());
        }
    }
    if !beyond.policies.is_empty() {
        panic::resume_unwind(Box::new(beyond));
    }
    runs.into_iter().filter_map(|(_, run)| run.ok()).collect()
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
        assert_eq!(error.policies, Vec::<String>::new());
        assert_eq!(within_213_days(|| 5).unwrap(), 5);
    }

    #[test]
    fn every_policy_that_outlives_time_is_named_once_and_in_order() {
        let late = || within_213_days(|| SimTime::from_picos(u64::MAX) + SimDuration::from_picos(1));
        let fine = || Ok(SimTime::ZERO);
        let runs = || vec![("b", late()), ("a", fine()), ("c", late()), ("b", late())];
        let error = within_213_days(|| all_within(runs())).unwrap_err();
        assert_eq!(error.policies, ["b", "c"]);
        assert!(error.to_string().starts_with("b, c: "), "{error}");
        assert_eq!(all_within(vec![("a", fine()), ("b", fine())]), [SimTime::ZERO; 2]);
    }

    #[test]
    #[should_panic(expected = "something else")]
    fn any_other_panic_goes_on() {
        let _ = within_213_days(|| panic!("something else"));
    }
}
