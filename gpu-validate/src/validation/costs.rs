//! What a step costs, for one model and one way of copying: the simulator's own cost models of a profile.
//!
//! [`ProfileCosts`] hands a profile to `orbitflow_sim::cost::resolve` with the link line of the case's granularity in the
//! place of the recommended one; nothing else is changed. A model that no fit saw is resolved from what the profile has
//! for its shapes. Nothing stands in silently: what does is in [`StepCost::notes`]. Knows no cases and no devices' handles.

use std::num::NonZeroU64;

use orbitflow_sim::cost::profile::{CopyDirection, HardwareProfile, LinkDirection};
use orbitflow_sim::cost::{ComputeForm, CostModel, CostOptions, PrefillLine, resolve};
use orbitflow_sim::model::ModelSpec;

use crate::case::{Granularity, attention_shape};
use crate::profile::with_link_lines;

/// What a step costs, for one model and one way of copying.
#[derive(Clone, Debug, PartialEq)]
pub struct StepCost {
    /// Tables, link curve and contention.
    pub full: CostModel,
    /// The same with compute as a line in context tokens; `None`: the profile has no line for the model.
    pub affine: Option<CostModel>,
    /// Where the numbers are from, one line each.
    pub notes: Vec<String>,
}

/// Why a model's steps cannot be predicted: its cases are left out, and listed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("no costs of {model} in {granularity} copies: {reason}")]
pub struct NoCosts {
    /// The model.
    pub model: String,
    /// [`Granularity::key`].
    pub granularity: &'static str,
    /// What the cost model said.
    pub reason: String,
}

/// Where costs come from: a fitted profile, or in tests a truth that is known exactly.
pub trait CostSource {
    /// The costs of steps of `model` whose copies are cut as `granularity` says.
    ///
    /// # Errors
    /// The source knows nothing of the model.
    fn step_cost(&self, model: &ModelSpec, granularity: Granularity) -> Result<StepCost, NoCosts>;
}

/// The costs that a profile gives.
#[derive(Clone, Copy, Debug)]
pub struct ProfileCosts<'a> {
    /// Fitted before any validation step ran.
    pub profile: &'a HardwareProfile,
}

impl CostSource for ProfileCosts<'_> {
    fn step_cost(&self, model: &ModelSpec, granularity: Granularity) -> Result<StepCost, NoCosts> {
        let mut notes = Vec::new();
        let h2d = self.line(CopyDirection::H2d, model, granularity, &mut notes);
        let d2h = self.line(CopyDirection::D2h, model, granularity, &mut notes);
        let profile = with_link_lines(self.profile, h2d, d2h);
        let options = CostOptions {
            // No decode step has a prefill in it, so the profile need not know any.
            prefill: Some(PrefillLine { base_s: 0.0, per_token_s: 0.0 }),
            ..CostOptions::default()
        };
        let resolved = |compute| resolve(&profile, model, &CostOptions { compute, ..options });
        let (full, said) = resolved(None).map_err(|error| NoCosts {
            model: model.name.clone(),
            granularity: granularity.key(),
            reason: error.to_string(),
        })?;
        let said = said.into_iter().filter(|line| !line.starts_with("prefill:"));
        notes.extend(said.map(|line| format!("{}, {}: {line}", model.name, granularity.key())));
        let affine = resolved(Some(ComputeForm::Affine)).ok().map(|(cost, _)| cost);
        Ok(StepCost { full, affine, notes })
    }
}

impl ProfileCosts<'_> {
    /// The fitted line of that way of copying, or the recommended one in the same pieces.
    fn line(
        &self,
        direction: CopyDirection,
        model: &ModelSpec,
        granularity: Granularity,
        notes: &mut Vec<String>,
    ) -> LinkDirection {
        let link = &self.profile.link;
        let piece = granularity.piece_bytes(attention_shape(model)).and_then(NonZeroU64::new);
        let fitted =
            (link.fits.iter()).find(|fit| fit.direction == direction && fit.granularity == granularity.key());
        let recommended = match direction {
            CopyDirection::H2d => &link.h2d,
            CopyDirection::D2h => link.d2h.as_ref().unwrap_or(&link.h2d),
        };
        if fitted.is_none() {
            notes.push(format!(
                "link: no line {} was fitted for {} copies: the recommended one ({}) stands in",
                direction.words(),
                granularity.key(),
                recommended.api.as_deref().unwrap_or("unnamed")
            ));
        }
        let line = fitted.map_or(recommended, |fit| &fit.line);
        LinkDirection { descriptor_bytes: piece, ..line.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::testing;

    #[test]
    fn each_granularity_gets_the_line_fitted_for_it_and_a_gap_is_said() {
        let model = testing::model();
        let profile = testing::profile(&model);
        let costs = ProfileCosts { profile: &profile };
        let layer = costs.step_cost(&model, Granularity::Layer).unwrap();
        let batch = costs.step_cost(&model, Granularity::BlocksBatch).unwrap();
        assert_eq!((layer.full.h2d.rate.get(), batch.full.h2d.rate.get()), (2_000_000_000, 1_500_000_000));
        assert_eq!(batch.full.h2d.pieces.unwrap().piece.unwrap().get(), 1024);
        // Lines were fitted for `layer` and `blocks-batch` host to device only.
        let gap = costs.step_cost(&model, Granularity::BlocksAsync).unwrap();
        assert_eq!(gap.full.h2d.rate.get(), 2_000_000_000);
        assert!(
            gap.notes[0].contains("no line host to device was fitted for blocks-async"),
            "{:?}",
            gap.notes
        );
        assert!(layer.affine.is_some());
    }

    #[test]
    fn the_reasons_of_the_recommended_line_are_no_reasons_of_another() {
        let model = testing::model();
        let mut profile = testing::profile(&model);
        // The recommended line has no submission time, and says so; the one fitted for batches has it.
        profile.missing.remove("link");
        for path in ["link.h2d", "link.d2h", "link.bidir", "link.pageable", "link.curves", "link.fits"] {
            profile.say_missing(path, "made for a test");
        }
        profile.say_missing("link.h2d.submit_s_per_desc", "not measured");
        profile.say_missing("link.link_intercept_s", "not measured");
        let costs = ProfileCosts { profile: &profile };
        assert!(costs.step_cost(&model, Granularity::BlocksBatch).is_ok());
    }

    #[test]
    fn a_model_the_profile_does_not_know_has_no_costs() {
        let profile = testing::profile(&testing::model());
        let stranger = ModelSpec { layers: 5, name: "stranger".to_owned(), ..testing::model() };
        let refused = ProfileCosts { profile: &profile }.step_cost(&stranger, Granularity::Layer);
        let reason = refused.unwrap_err().to_string();
        assert!(reason.contains("no measured times for stranger"), "{reason}");
    }
}
