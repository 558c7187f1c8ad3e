//! One self-contained HTML page from the saved results of a comparison: verdict, scores, figures, notes, commands.
//!
//! Like a plot it knows the rows of the result files and nothing else; colours, marks and words are the plots', so
//! that a policy looks the same in both. Figures are SVG and tables made here: without a script the page is whole.
//! `page.js` adds what needs one (hiding policies, sorting, values under the pointer or the arrow keys), and
//! `page.css` light, dark, narrow and print. The page loads nothing, and its policy (CSP) forbids that it could.
//!
//! The same files give the same bytes: no date, no path, no machine.

mod breakdown;
mod chart;
mod curves;
mod held_up;
mod markup;
mod planning;
mod scores;
mod spread;
mod subject;
mod theme;
mod usage;
mod verdict;

use std::fmt::Write as _;

use serde_json::json;

use crate::plot::style::{self, PolicyStyle};
use crate::plot::{PlotError, check, check_number, check_policy};
use crate::report::SavedResults;
use crate::report::rows::{PolicyResult, RequestRow, Results};
use markup::{data, text};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A policy on the page.
struct Shown<'a> {
    /// Place in the results.
    index: usize,
    result: &'a PolicyResult,
    style: PolicyStyle,
    /// Its label, with the key if another has the same.
    name: String,
    /// Requests that got no first token, rejected ones included.
    without_first_token: u64,
}

impl Shown<'_> {
    /// By which the script finds what is this policy's.
    fn attribute(&self) -> String {
        format!("data-p=\"{}\"", self.index)
    }
}

/// Swatch, name and key, as rows of tables begin.
fn name_of(shown: &Shown<'_>) -> String {
    let key = if shown.name == shown.result.label {
        format!(" <code>{}</code>", text(&shown.result.key))
    } else {
        String::new()
    };
    format!("{}{}{key}", chart::swatch(shown), text(&shown.name))
}

/// The page.
///
/// # Errors
/// Results without a policy, rows of another run, numbers that no run can have produced.
pub fn page(saved: &SavedResults) -> Result<String, PlotError> {
    let SavedResults { results, requests, quantiles, timeline, states: _ } = saved;
    check(results, quantiles, timeline)?;
    check_requests(results, requests)?;
    let policies = shown(results, requests);
    let [first, second] = verdict::sentences(results, &policies);
    let mut body = String::new();
    let _ = write!(
        body,
        "<header>\n<p class=\"kicker\">OrbitFlow: policies compared on one trace</p>\n<h1>{}</h1>\n<p>{}.<br>{}; <a href=\"#compared\">all notes</a>.</p>\n</header>\n\
         <section id=\"verdict\" aria-labelledby=\"verdict-h\"><h2 id=\"verdict-h\">Verdict</h2>\n<p>{}</p>\n<p>{}</p>\n\
         <p class=\"faint\">Simulated, not measured: it holds under the notes below.</p></section>\n",
        text(&results.scenario),
        text(&subject::trace(results)),
        text(&subject::server(results)),
        text(&first),
        text(&second),
    );
    body.push_str(&legend(&policies));
    for (id, title, html) in [
        ("scores", "Scores", scores::section(results, &policies)),
        ("slo", "Attainment against the SLO", curves::section(&policies)),
        ("spread", "Distributions of TBT, TPOT and TTFT", spread::section(results, quantiles, &policies)),
        ("time", "Where the time went", breakdown::section(&policies)),
        ("usage", "Memory and link over time", usage::section(results, timeline, &policies)),
        ("held-up", "Who was held up", held_up::section(requests, &policies)),
        ("forecast", "Forecast error", planning::forecast(&policies)),
        ("plans", "Plans by trigger", planning::plans(&policies)),
        ("compared", "What was compared", subject::compared(results)),
        ("commands", "How to make this page again", subject::commands(results)),
    ] {
        let _ = write!(
            body,
            "<section id=\"{id}\" aria-labelledby=\"{id}-h\"><h2 id=\"{id}-h\">{title}</h2>\n{html}</section>\n"
        );
    }
    Ok(document(results, &policies, &body))
}

fn shown<'a>(results: &'a Results, requests: &[RequestRow]) -> Vec<Shown<'a>> {
    let styles = style::styles(results.policies.iter().map(|policy| policy.key.as_str()));
    let of_label = |label: &str| results.policies.iter().filter(|policy| policy.label == label).count();
    (results.policies.iter().zip(styles).enumerate())
        .map(|(index, (result, style))| {
            let is_taken = of_label(&result.label) > 1;
            let name =
                if is_taken { format!("{} ({})", result.label, result.key) } else { result.label.clone() };
            let without =
                |request: &&RequestRow| request.policy == result.key && request.first_token_s.is_none();
            let without_first_token = requests.iter().filter(without).count() as u64;
            Shown { index, result, style, name, without_first_token }
        })
        .collect()
}

/// The policies and their looks; the script makes buttons of them.
fn legend(policies: &[Shown<'_>]) -> String {
    let items: String = policies
        .iter()
        .map(|shown| format!("<li>{}{}</li>", chart::swatch(shown), text(&shown.name)))
        .collect();
    format!("<nav class=\"legend\" aria-label=\"Policies\"><ul id=\"policies\">{items}</ul></nav>\n")
}

fn document(results: &Results, policies: &[Shown<'_>], body: &str) -> String {
    let names: Vec<&str> = policies.iter().map(|shown| shown.name.as_str()).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src \
         'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"generator\" content=\"orbitflow {version}\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{scenario}: OrbitFlow comparison</title>\n\
         <style>\n{STYLE}{variables}</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#scores\">Skip to the scores</a>\n\
         <main>\n{body}</main>\n<footer><p>orbitflow {version}, scenario digest <code class=\"long\">{digest}</code></p></footer>\n\
         <script type=\"application/json\" id=\"names\">{names}</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        version = text(&results.tool_version),
        scenario = text(&results.scenario),
        digest = text(&results.scenario_digest),
        variables = theme::variables(policies),
        names = data(&json!(names)),
    )
}

/// Refuses requests of another run, and times that no run can have produced.
fn check_requests(results: &Results, requests: &[RequestRow]) -> Result<(), PlotError> {
    let keys: Vec<&str> = results.policies.iter().map(|policy| policy.key.as_str()).collect();
    let known = || keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let file = "requests.csv";
    for (row, request) in requests.iter().enumerate() {
        check_policy(file, row, &request.policy, &keys, known)?;
        let times = [
            ("paused_s", Some(request.paused_s)),
            ("ttft_s", request.ttft_s),
            ("tpot_step_s", request.tpot_step_s),
            ("tpot_gap_s", request.tpot_gap_s),
        ];
        for (column, value) in times.into_iter().filter_map(|(column, value)| Some((column, value?))) {
            check_number(file, row, column, value, f64::MAX, "a finite number of seconds ≥ 0")?;
        }
    }
    Ok(())
}
