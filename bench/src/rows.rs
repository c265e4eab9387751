//! Writing rows to a real kernel: 100,000 endpoints, 300,000 FDB and neighbour rows.
//!
//! In a network namespace of this process's own, which ends with it; nothing is sent anywhere.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Context;
use weft_kernel::{KernelState, Key, Scope, Step};
use weft_linux::Linux;
use weft_plan::plan;
use weft_reconcile::diff;

use crate::report::{Reach, Report};

const ENDPOINTS: u64 = 50_000;
const ROUNDS: usize = 5;
/// Steps handed to the kernel at once, as the reconciler does.
const BATCH: usize = 4096;

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let (tx, rx) = std::sync::mpsc::channel();
    // A thread of its own, because a namespace belongs to a thread.
    std::thread::spawn(move || drop(tx.send(rounds())));
    let (rows, rounds) = rx.recv().context("the measuring thread ended early")??;
    report.add(
        format!("{rows} FDB and neighbour rows of 100,000 endpoints written from nothing"),
        "s",
        rounds,
        Reach::median(3.0),
    );
    Ok(())
}

fn rounds() -> anyhow::Result<(usize, Vec<f64>)> {
    let mut rows = 0;
    let mut seconds = Vec::new();
    let view = crate::plan::view(2, ENDPOINTS)?;
    for _ in 0..ROUNDS {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .context("a namespace needs root")?;
        let want = plan(&view).kernel;
        let mut linux = Linux::open()?;
        let steps = diff(&want, &KernelState::new());
        let (row_steps, ground): (Vec<Step>, Vec<Step>) = steps
            .into_iter()
            .partition(|s| matches!(s.key(), Key::Neighbour(..) | Key::Fdb(..) | Key::Flood(..)));
        apply(&mut linux, &ground);
        rows = row_steps.len();
        let begun = Instant::now();
        let refused = apply(&mut linux, &row_steps);
        seconds.push(begun.elapsed().as_secs_f64());
        anyhow::ensure!(refused.is_empty(), "the kernel refused rows: {refused:?}");
        verify(&mut linux, &row_steps)?;
    }
    Ok((rows, seconds))
}

/// Applies all, and gives what was refused by message and count.
fn apply(linux: &mut Linux, steps: &[Step]) -> BTreeMap<String, usize> {
    let mut refused = BTreeMap::new();
    for batch in steps.chunks(BATCH) {
        for fault in linux.apply(batch).into_iter().filter_map(Result::err) {
            *refused.entry(fault.message).or_insert(0) += 1;
        }
    }
    refused
}

/// What was measured must have happened.
fn verify(linux: &mut Linux, steps: &[Step]) -> anyhow::Result<()> {
    let have = linux.observe(&Scope::All)?;
    let missing = steps.iter().filter(|s| have.get(s.key()).is_none()).count();
    anyhow::ensure!(missing == 0, "{missing} rows are not in the kernel");
    Ok(())
}
