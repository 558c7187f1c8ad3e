//! Why the numbers are as they are: sentences written after looking at `summary.md`, for this version's program and seeds.
//! They hold no number that the program computes; who changes a scenario reads them again.

/// The reason of one claim.
pub fn of(key: &str, semantics: &str) -> &'static str {
    let published = semantics == "published";
    match key {
        "tpot" => {
            "DeepSpeed copies every layer of every request in every step, so almost any method is this far ahead of it"
        }
        "tpot-without-deepspeed" => {
            "the largest gain is over FlexGen (every second layer, always); over FlexGen+ and SLO-aware offloading, which \
             offload less, it is smaller. The paper does not say which baseline and point it means"
        }
        "tbt" => {
            "the size is there, again against DeepSpeed; part of it is the scoring: see the rows scored alike"
        }
        "tbt-without-deepspeed" if published => {
            "against FlexGen at light load, where OrbitFlow offloads only what must be; some points of it are deposit \
             playback for OrbitFlow alone"
        }
        "tbt-without-deepspeed" => {
            "the physical switches (two staging slots, lazy restores, reclaimable admission) as a whole help the fixed methods and \
             cost OrbitFlow a few points, so the gap closes a little"
        }
        "tbt-deposit" => "DeepSpeed's tokens are late by so much that a deposit cannot hide them",
        "tbt-deposit-without-deepspeed" => {
            "what is left when deposit playback, which is a scoring, is given to every method"
        }
        "p95" => "DeepSpeed's slow steps move the whole KV cache; see the row without it",
        "p95-without-deepspeed" if published => {
            "largest at light load and the tightest SLO, where the planner pauses rather than take long steps; smaller at higher load and looser \
             SLOs (load.csv), where the failure budget F = 2 licenses steps of twice the SLO at four requests"
        }
        "p95-without-deepspeed" => {
            "under the physical switches the baselines' slow steps are a fifth shorter and OrbitFlow's are not: its failure \
             budget licenses them"
        }
        "throughput" => {
            "pausing keeps steps short at the tightest SLO and high load; against DeepSpeed, whose steps are three times as long"
        }
        "throughput-without-deepspeed" => "against FlexGen; no method but DeepSpeed is three times as slow",
        "masked" => {
            "such a share is reached at light load and a loose SLO, where late tokens come after long early stretches; \
             elsewhere it is a fifth to two thirds. The example's setting is not known"
        }
        "victim" if published => {
            "freeing the longest makes most room per pause, but a random victim does nearly as well. Whatever the rule, someone waits for \
             seven minutes and more, and end to end not pausing at all is best in the mean (victim.csv)"
        }
        "victim" => {
            "freeing the longest makes most room per pause; `max_pause` bounds what it costs that request, and end to end \
             the rules are alike, not pausing among them"
        }
        "burst" => "bursts fill the pool for longer, which costs every method; the order stays",
        "batch" if published => {
            "the gain is smallest at 2: the failure budget F = 2 cannot bind there, so OrbitFlow pauses only for memory, and for longer"
        }
        "batch" => "at 2 the failure budget F = 2 cannot bind, and SLO-aware offloading is level on TPOT",
        "context" if published => {
            "the gain is largest at 128k, where uniform methods move most; at 8k it is behind end to end: \
             it keeps more on the GPU, admission counts free blocks, and its median newcomer waits for over a second where static \
             layouts let it in at once"
        }
        "context" => {
            "at 8k almost every step of every method but DeepSpeed is in time: copies are short beside a compute time that \
             hardly shrinks with context, so there is nothing to gain"
        }
        "tp2" if published => {
            "level where all are at 100 %: on the fit of one A5000 the true scales of 2.5 to 5.4 are loose. The published runs \
             must have had slower steps than this fit (all-reduce, eager mode), which is not public. Behind end to end only by TTFT: newcomers wait for blocks that FlexGen leaves free"
        }
        "tp2" => {
            "level where all are at 100 %: on the fit of one A5000 the true scales of 2.5 to 5.4 are loose. The published runs \
             must have had slower steps than this fit (all-reduce, eager mode), which is not public"
        }
        "tp4" => {
            "long contexts and a slow link: uniform methods offload the short requests with the long ones"
        }
        "a100" => {
            "at the published load half a peak of pool holds every batch whole: OrbitFlow, FlexGen+, the heuristic and no \
             offloading are the same run. At load 8 (a100.csv) OrbitFlow is ahead of the published four"
        }
        "overhead" => {
            "the time of our own search from its table, planned ahead: what exceeds the step before is charged. It says \
             that such plans can be had in time; nothing about the authors' Gurobi"
        }
        _ => panic!("Invariant: every claim has a reason: {key}"),
    }
}

/// The reason of the design validation at one SLO scale, in the paper's scoring or with all scored alike.
pub fn of_design(scored_alike: bool, scale: f64) -> &'static str {
    match (scored_alike, scale > 1.0) {
        (false, true) => {
            "each part adds; but deposit adds by scoring alone: plans with and without it are all but the same, and so are their TPOT \
             and e2e"
        }
        (true, true) => "scored alike, deposit adds nothing; pause-resume and a distance per request each do",
        (_, false) => {
            "at the tightest SLO a common distance is infeasible more often, so it pauses more and longer: fewer late tokens, since \
             who is paused makes none. OrbitFlow runs more requests, within its failure budget of slow steps, and is \
             ahead on playback stall and e2e (design.csv)"
        }
    }
}

/// What to make of the comparisons that the paper does not have.
pub const NOT_IN_THE_PAPER: &str = "
So on the paper's own two scores a rule without a planner is enough: offload little or nothing, let requests queue. \
TBT and TPOT do not count a request that waits. What it costs is in the figures: a median TTFT of minutes instead of seconds at load 2, \
and requests that outgrow the pool and never finish. End to end OrbitFlow is mostly ahead and rarely behind, but under the published switches \
hardly ahead of the dynamic heuristic, which has no planner either. At loads 4 and 5 every method fails most requests end to end: the server is \
overloaded and the trace ends in a queue.
";
