//! The columns of each CSV table (design §2.3): the names of its row's fields, which a test holds.

use serde::Serialize;

use super::rows::{QuantileRow, RequestRow, StateRow, StepRow, TimelineRow};

/// A row of a CSV table. The header stands in a table without rows too.
pub trait CsvRow: Serialize {
    /// Its columns, in order.
    const COLUMNS: &'static [&'static str];
}

impl CsvRow for RequestRow {
    const COLUMNS: &'static [&'static str] = &[
        "policy",
        "id",
        "state",
        "arrival_s",
        "admitted_s",
        "first_token_s",
        "finish_s",
        "prompt_tokens",
        "output_tokens",
        "delivered_tokens",
        "slo_s",
        "ttft_s",
        "tpot_step_s",
        "tpot_gap_s",
        "late_step",
        "late_gap",
        "late_step_deposit",
        "late_gap_deposit",
        "paused_s",
        "pauses",
        "preemptions",
    ];
}

impl CsvRow for QuantileRow {
    const COLUMNS: &'static [&'static str] = &["policy", "metric", "p", "seconds"];
}

impl CsvRow for TimelineRow {
    const COLUMNS: &'static [&'static str] = &[
        "policy",
        "t_s",
        "running",
        "paused",
        "waiting",
        "gpu_blocks",
        "step_s",
        "stall_s",
        "steps",
        "from_s",
        "to_s",
        "h2d_bytes",
        "d2h_bytes",
    ];
}

impl CsvRow for StateRow {
    const COLUMNS: &'static [&'static str] = &["policy", "id", "state", "start_s", "end_s"];
}

impl CsvRow for StepRow {
    const COLUMNS: &'static [&'static str] = &[
        "policy",
        "step",
        "kind",
        "start_s",
        "duration_s",
        "compute_s",
        "stall_s",
        "prefill_s",
        "restore_s",
        "planning_s",
        "forecast_s",
        "running",
        "paused",
        "waiting",
        "gpu_blocks",
        "h2d_bytes",
        "d2h_bytes",
        "trigger",
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header that serde would write above that row.
    fn header<T: CsvRow>(row: &T) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.serialize(row).unwrap();
        let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        text.lines().next().unwrap().to_owned()
    }

    #[test]
    fn columns_are_the_fields_of_their_rows() {
        let request: RequestRow = serde_json::from_value(serde_json::json!({
            "policy": "p", "id": "i", "state": "finished", "arrival_s": 0.0, "prompt_tokens": 1, "output_tokens": 1,
            "delivered_tokens": 1, "slo_s": 1.0, "late_step": 0, "late_gap": 0, "late_step_deposit": 0,
            "late_gap_deposit": 0, "paused_s": 0.0, "pauses": 0, "preemptions": 0,
        }))
        .unwrap();
        assert_eq!(header(&request), RequestRow::COLUMNS.join(","));
        let quantile = QuantileRow { policy: String::new(), metric: String::new(), p: 0.0, seconds: 0.0 };
        assert_eq!(header(&quantile), QuantileRow::COLUMNS.join(","));
        let step: StepRow = serde_json::from_value(serde_json::json!({
            "policy": "p", "step": 0, "kind": "decode", "start_s": 0.0, "duration_s": 0.0, "compute_s": 0.0, "stall_s": 0.0,
            "prefill_s": 0.0, "restore_s": 0.0, "planning_s": 0.0, "running": 0, "paused": 0, "waiting": 0, "gpu_blocks": 0,
            "h2d_bytes": 0, "d2h_bytes": 0,
        }))
        .unwrap();
        assert_eq!(header(&step), StepRow::COLUMNS.join(","));
        let point: TimelineRow = serde_json::from_value(serde_json::json!({
            "policy": "p", "t_s": 0.0, "running": 0, "paused": 0, "waiting": 0, "gpu_blocks": 0, "step_s": 0.0, "stall_s": 0.0,
            "steps": 1, "from_s": 0.0, "to_s": 0.0, "h2d_bytes": 0, "d2h_bytes": 0,
        }))
        .unwrap();
        assert_eq!(header(&point), TimelineRow::COLUMNS.join(","));
        let state: StateRow = serde_json::from_value(serde_json::json!({
            "policy": "p", "id": "i", "state": "waiting", "start_s": 0.0, "end_s": 0.0,
        }))
        .unwrap();
        assert_eq!(header(&state), StateRow::COLUMNS.join(","));
    }
}
