//! placeholder
use crate::units::SimDuration;
/// x
pub fn solver_time(_requests: u32, _candidates: u32) -> SimDuration {
    SimDuration::ZERO
}
