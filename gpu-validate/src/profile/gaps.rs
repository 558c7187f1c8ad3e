//! Why a null is null: collected while the profile is made, and kept only where a null stands.

use std::collections::BTreeMap;

use orbitflow_sim::cost::HardwareProfile;
use orbitflow_sim::cost::profile::{Fit, Positive};
use serde_json::Value;

use crate::device::Backend;
use crate::fit::{FEW_POINTS, NoFit, Quality};

/// Key path to reason.
#[derive(Default)]
pub(super) struct Gaps(BTreeMap<String, String>);

impl Gaps {
    /// Says why what stands at `path`, or under it, is null.
    pub(super) fn say(&mut self, path: &str, reason: &str) {
        self.0.insert(path.to_owned(), reason.to_owned());
    }

    /// A coefficient, or null with the fit's own reason.
    pub(super) fn coefficient(&mut self, path: &str, value: &Result<f64, NoFit>) -> Option<Positive> {
        match value {
            Ok(value) => self.number(path, *value, "not a number above 0"),
            Err(reason) => {
                self.say(path, &reason.to_string());
                None
            }
        }
    }

    /// A number above 0, or null with `reason`.
    pub(super) fn number(&mut self, path: &str, value: f64, reason: &str) -> Option<Positive> {
        let number = Positive::new(value).ok();
        if number.is_none() {
            self.say(path, reason);
        }
        number
    }

    /// A fit's quality; its gaps are those of few points.
    pub(super) fn quality(&mut self, path: &str, quality: &Quality) -> Fit {
        let fit = quality.to_fit();
        if fit.r2.is_none() {
            self.say(&format!("{path}.r2"), "all times are equal");
        }
        if fit.loo_rel_err.is_none() {
            self.say(
                &format!("{path}.loo_rel_err"),
                "fewer than three contexts or sizes to leave out in turn",
            );
        }
        fit
    }

    /// Moves the reasons into the profile: those that explain a null, and for what the backend did not say, that.
    pub(super) fn finish(self, profile: &mut HardwareProfile, backend: Backend) {
        profile.missing = self.0;
        for section in ["device", "provenance.host"] {
            let unexplained = nulls(profile)
                .iter()
                .any(|null| is_under(null, section) && profile.reason_for(null).is_none());
            if unexplained {
                let reason = format!("the `{}` backend cannot read it here", backend.key());
                profile.say_missing(section, &reason);
            }
        }
        forget_what_is_there(profile);
    }
}

/// Notes for a fit without intervals; `None` where there are enough points.
pub(super) fn few_points(name: &str, quality: &Quality) -> Option<String> {
    (quality.points < 2 * FEW_POINTS)
        .then(|| format!("{name}: {} points only: intervals are rough or not given", quality.points))
}

/// Drops reasons under which no null stands.
pub(super) fn forget_what_is_there(profile: &mut HardwareProfile) {
    let nulls = nulls(profile);
    profile.missing.retain(|path, _| nulls.iter().any(|null| is_under(null, path)));
}

fn is_under(null: &str, section: &str) -> bool {
    null.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Key paths of all nulls.
fn nulls(profile: &HardwareProfile) -> Vec<String> {
    let value = serde_json::to_value(profile).expect("Invariant: a profile is plain data");
    let mut paths = Vec::new();
    collect(&value, String::new(), &mut paths);
    paths
}

fn collect(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Null => paths.push(path),
        Value::Object(object) => {
            for (key, inner) in object {
                let inner_path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(inner, inner_path, paths);
            }
        }
        Value::Array(array) => {
            for (index, inner) in array.iter().enumerate() {
                collect(inner, format!("{path}[{index}]"), paths);
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
