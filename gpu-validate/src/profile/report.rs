//! What the fits say beside the profile: residuals, points for plots, and lines for the report.

use serde::Serialize;

use crate::fit::{Prediction, Quality};

/// Everything a report says about the fits.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FitReport {
    /// Every fit, in the order of the profile.
    pub fits: Vec<FitSummary>,
    /// What was chosen, compared or assumed.
    pub notes: Vec<String>,
    /// What a reader must know before using the profile.
    pub warnings: Vec<String>,
}

/// One fit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FitSummary {
    /// For example `h2d async`, `attention 32/8/128`, `step llama-3-8b`.
    pub name: String,
    /// Key path of it in the profile; empty if it is not there.
    pub path: String,
    /// What [`Prediction::at`] is: `bytes per piece`, `bytes of KV`, `context tokens`.
    pub axis: String,
    /// How good it is.
    pub quality: Quality,
    /// Every point, those it did not see among them.
    pub predictions: Vec<Prediction>,
}

impl FitReport {
    pub(super) fn fit(
        &mut self,
        name: &str,
        path: &str,
        axis: &str,
        quality: &Quality,
        predictions: &[Prediction],
    ) {
        self.notes.extend(super::gaps::few_points(name, quality));
        self.fits.push(FitSummary {
            name: name.to_owned(),
            path: path.to_owned(),
            axis: axis.to_owned(),
            quality: quality.clone(),
            predictions: predictions.to_vec(),
        });
    }

    /// Points that no fit saw, predicted by one of others.
    pub(super) fn unfitted(&mut self, name: &str, axis: &str, predictions: Vec<Prediction>) {
        self.fits.push(FitSummary {
            name: name.to_owned(),
            path: String::new(),
            axis: axis.to_owned(),
            quality: Quality::default(),
            predictions,
        });
    }

    pub(super) fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    pub(super) fn warn(&mut self, line: String) {
        self.warnings.push(line);
    }

    /// One line per fit, then notes, then warnings.
    pub fn lines(&self) -> Vec<String> {
        let fits = self.fits.iter().map(FitSummary::line);
        let warnings = self.warnings.iter().map(|warning| format!("warning: {warning}"));
        fits.chain(self.notes.iter().cloned()).chain(warnings).collect()
    }
}

impl FitSummary {
    /// Points, R², errors, and what was not seen.
    pub fn line(&self) -> String {
        let percent = |share: Option<f64>| match share {
            Some(share) => format!("{:.2} %", 100.0 * share),
            None => "not known".to_owned(),
        };
        let unseen: Vec<f64> =
            self.predictions.iter().filter(|point| !point.used).map(|point| point.error().abs()).collect();
        let unseen = match crate::sample::median(&unseen) {
            Some(error) => format!("; {} points not fitted: {}", unseen.len(), percent(Some(error))),
            None => String::new(),
        };
        if self.quality.points == 0 {
            return format!("{}{unseen}", self.name);
        }
        let r2 = self.quality.r2.map_or("not known".to_owned(), |r2| format!("{r2:.5}"));
        format!(
            "{}: {} points, R² {r2}, error median {} largest {}, left out {}, largest {} left out {}{unseen}",
            self.name,
            self.quality.points,
            percent(self.quality.median_error),
            percent(self.quality.largest_error),
            percent(self.quality.left_out_error()),
            if self.axis.starts_with("bytes per piece") { "size" } else { "context" },
            percent(self.quality.extrapolation_error()),
        )
    }
}
