//! Tables whose rule looks at more than stamps: what each row has been through is kept as a state, which a change is
//! joined to, and the row is made what the state says.
//!
//! A change of this node is joined like any other. The row shows it already; where the state says something else, it is
//! overruled there. Whether the row shows just this change is told by its values: where it shows something else, a
//! later change of this node is on its way, and the row is left to that one.

use syncline_transforms::resolve::columns::{Conflict, Incoming, ResolveError};
use syncline_transforms::resolve::plan::Plan;
use syncline_transforms::resolve::row::{Operation, Version};
use syncline_transforms::resolve::state::State;

use super::fold::{Found, Turn, Waited};
use super::table::Image;

/// What becomes of a row.
#[derive(Debug, Default)]
pub(super) struct Resolution {
    /// What the row has to become, where it has to change; none where it has to go.
    pub(super) write: Option<Option<Image>>,
    /// What is known of the row from now on, where that changed.
    pub(super) entry: Option<(State, Option<u32>)>,
    pub(super) discarded: Vec<Discarded>,
    /// Turns that wait.
    pub(super) waits: Vec<usize>,
    /// Whether a fence has to be sent for them.
    pub(super) asks: bool,
}

/// Something that did not stay.
#[derive(Debug)]
pub(super) struct Discarded {
    /// The turn.
    pub(super) turn: usize,
    pub(super) conflict: Conflict,
    /// The row before and behind the turn.
    pub(super) target: Option<Image>,
    pub(super) result: Option<Image>,
}

/// A row while its changes are taken one after the other.
struct Row<'a> {
    plan: &'a Plan,
    state: Option<State>,
    /// What the state says the row is.
    wanted: Option<Image>,
    /// The row's `xmin` as the state left it.
    noted: Option<u32>,
    mine: u32,
    /// What the row shows, with an earlier turn's write.
    shown: Option<Image>,
    /// Whether the row shows what an earlier turn wrote.
    written: bool,
    changed: bool,
}

/// Takes the turns one after the other; this node's own ones should come first. `images` are the turns' new rows (of
/// deletes the old ones) and old rows, `shown` is the row as it was found, `mine` is this
/// transaction's id, and `before` stands for a row that was there before the first sync.
///
/// # Errors
///
/// A change that cannot be joined.
pub(super) fn resolve(
    plan: &Plan,
    found: &Found,
    shown: Option<Image>,
    (turns, images): (&[Turn<'_>], &[(Image, Option<Image>)]),
    (mine, before): (u32, &Version),
) -> Result<Resolution, ResolveError> {
    let wanted = found.state.as_ref().map(|state| plan.row(state)).transpose()?.flatten();
    let mut row = Row {
        plan,
        state: found.state.clone(),
        wanted,
        noted: found.noted,
        mine,
        shown,
        written: false,
        changed: false,
    };
    let mut resolution = Resolution::default();
    for (index, (turn, (image, old))) in turns.iter().zip(images).enumerate() {
        let incoming = incoming(turn, image, old.as_ref());
        if turn.own {
            row.take_own(index, &incoming, found, &mut resolution)?;
            continue;
        }
        if !resolution.waits.is_empty() || found.waits || (!found.locked && found.row.is_some()) {
            resolution.waits.push(index);
            continue;
        }
        let known = row.is_known(found);
        let returned = matches!(turn.waited, Waited::ForFence(_));
        if !known && !returned {
            resolution.asks = true;
            resolution.waits.push(index);
            continue;
        }
        // What is written since is told by its own record. Where the row shows what it should, nothing was.
        let unchanged = turn.waited == Waited::ForFence(found.row) || row.shown == row.wanted;
        if row.state.is_none()
            && !row.written
            && let Some(image) = &row.shown
        {
            let insert = Operation::Insert;
            let there =
                Incoming { operation: insert, version: before.clone(), before: None, after: Some(image.clone()) };
            row.join(index, &there, &mut Resolution::default())?;
        }
        row.join(index, &incoming, &mut resolution)?;
        if known || unchanged {
            row.make_so(&mut resolution, found);
        } else {
            // A change of this node is on its way, and brings the row in line when it comes.
            row.noted = None;
        }
    }
    if row.changed {
        resolution.entry = row.state.map(|state| (state, row.noted));
    }
    Ok(resolution)
}

fn incoming(turn: &Turn<'_>, image: &Image, old: Option<&Image>) -> Incoming {
    let (before, after) = match turn.operation {
        Operation::Insert => (None, Some(image.clone())),
        Operation::Update => (old.cloned(), Some(image.clone())),
        Operation::Delete => (Some(image.clone()), None),
    };
    Incoming { operation: turn.operation, version: turn.version.clone(), before, after }
}

impl Row<'_> {
    /// Whether the row is what the state says, and no write of this node is on its way.
    fn is_known(&self, found: &Found) -> bool {
        self.written
            || match found.row {
                None => self.wanted.is_none(),
                xmin => self.wanted.is_some() && self.noted == xmin,
            }
    }

    fn join(&mut self, turn: usize, incoming: &Incoming, resolution: &mut Resolution) -> Result<(), ResolveError> {
        let resolved = self.plan.resolve(incoming, self.state.as_ref())?;
        let target = std::mem::replace(&mut self.wanted, resolved.row);
        for conflict in resolved.conflicts {
            let (target, result) = (target.clone(), self.wanted.clone());
            resolution.discarded.push(Discarded { turn, conflict, target, result });
        }
        self.state = Some(resolved.state);
        self.changed = true;
        Ok(())
    }

    fn make_so(&mut self, resolution: &mut Resolution, found: &Found) {
        if self.shown == self.wanted {
            if !self.written {
                self.noted = found.row;
            }
            return;
        }
        self.shown = self.wanted.clone();
        self.written = true;
        self.noted = Some(self.mine);
        resolution.write = Some(self.wanted.clone());
    }

    fn take_own(
        &mut self,
        turn: usize,
        incoming: &Incoming,
        found: &Found,
        resolution: &mut Resolution,
    ) -> Result<(), ResolveError> {
        // It was written over before it was known. The row is what the state says then, without it; one that is gone may
        // be so by a later change of this node, unless another node's delete is known that this change had not seen.
        let other = |version: &Version| version.stamp.origin != incoming.version.stamp.origin;
        let remembered = self.state.as_ref().map(State::versions).unwrap_or_default();
        let unseen = remembered.iter().any(|version| other(version) && !incoming.version.saw(version));
        let overwritten = self.is_known(found) && (self.written || found.row.is_some() || unseen);
        self.join(turn, incoming, resolution)?;
        if self.shown == incoming.after || overwritten {
            self.make_so(resolution, found);
        } else {
            self.noted = None;
        }
        Ok(())
    }
}
