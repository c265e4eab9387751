//! Rows, hundreds to a system call.

use weft_kernel::{Key, Netns, Object, Step};

use super::{Results, Session, mismatch};
use crate::fault::Trouble;
use crate::netlink::Batch;
use crate::row;

/// Messages to a system call. Beyond this the time is all the kernel's own.
const BATCH: usize = 500;

impl Session<'_> {
    pub(super) fn rows(&mut self, steps: &[Step], results: &mut Results) {
        let offset = results.len();
        results.extend(steps.iter().map(|_| Ok(())));
        let results = &mut results[offset..];
        let mut batch = Batch::default();
        let mut start = 0;
        for (number, step) in steps.iter().enumerate() {
            results[number] = self.add_row(&mut batch, number, step);
            if batch.len() >= BATCH {
                self.send_rows(&mut batch, steps, start..number + 1, results);
                start = number + 1;
            }
        }
        self.send_rows(&mut batch, steps, start..steps.len(), results);
    }

    fn add_row(&mut self, batch: &mut Batch, number: usize, step: &Step) -> Result<(), Trouble> {
        let Some((_, name)) = step.key().sits_on() else { return Err(mismatch()) };
        let link = match (self.owned(Netns::Host, name), step) {
            (Ok(link), _) => link,
            // What sits on nothing of ours is not ours.
            (Err(_), Step::Delete(_)) => return Ok(()),
            (Err(trouble), Step::Put(..)) => return Err(trouble),
        };
        if row::write(batch, number, step, link.index, link.is_bridge) {
            Ok(())
        } else {
            Err(mismatch())
        }
    }

    fn send_rows(
        &mut self,
        batch: &mut Batch,
        steps: &[Step],
        range: std::ops::Range<usize>,
        results: &mut [Result<(), Trouble>],
    ) {
        let part = steps[range.clone()].iter().filter_map(row_of);
        self.linux.own.expect(part);
        let mut refused = Vec::new();
        let sent = self.linux.route.send(batch, |number, refusal| refused.push((number, refusal)));
        for (number, refusal) in refused {
            if let Some((step, result)) = steps.get(number).zip(results.get_mut(number))
                && !row::is_done(step, &refusal)
            {
                self.forget(step);
                *result = Err(refusal.into());
            }
        }
        if let Err(refusal) = sent {
            for number in range {
                if results[number].is_ok() {
                    self.forget(&steps[number]);
                    results[number] = Err(refusal.clone().into());
                }
            }
        }
    }

    /// A row that was not written is not expected.
    fn forget(&mut self, step: &Step) {
        let row = row_of(step).map(|(link, key, _)| (link, key, None));
        self.linux.own.expect(row.into_iter());
    }
}

fn row_of(step: &Step) -> Option<(&str, &Key, Option<&Object>)> {
    let (_, link) = step.key().sits_on()?;
    Some(match step {
        Step::Put(key, object) => (link, key, Some(object)),
        Step::Delete(key) => (link, key, None),
    })
}
