//! The bounded queue between sources and core: so many inputs, so many events, so many bytes, in two lines.
//!
//! Urgent events ([`Priority::High`]) have a line of their own, which the core empties first, and an eighth of the room
//! kept for them: they overtake whatever waits. Input with a transport position stays in order, because the position
//! says that everything before it was counted.
//!
//! A full queue makes a source wait, which is how brokers are throttled. Sources that nobody can throttle may drop
//! instead ([`Overflow`]): counted by source, reason and priority.

mod dropped;
mod ingest;
mod lanes;
mod pace;
mod queue;
mod room;

pub use ingest::Ingest;
pub use lanes::Priority;
pub use pace::Pace;
pub use queue::IngestQueue;

use super::rate::Client;
use crate::config::schema::Overflow;
use crate::model::Field;
use crate::telemetry::self_metrics;
use dropped::Dropped;
use lanes::Lanes;
use metrics::{Counter, Gauge};
use room::{Need, NoRoom, Pool, Room};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// Why an input was not taken, and its pieces when there is no room for them now.
type Refused = (Full, [Option<Piece>; 2]);

/// The queue's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Inputs that may wait.
    pub batches: usize,
    /// Bytes that may wait. A larger input passes alone.
    pub bytes: usize,
}

/// What a queue is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// How many inputs and bytes.
    pub limits: QueueLimits,
    /// Events that may wait. A larger input passes alone.
    pub events: usize,
    /// Events of at least this priority are urgent.
    pub high_priority: u8,
}

impl From<QueueLimits> for QueueOptions {
    fn from(limits: QueueLimits) -> Self {
        Self { limits, events: 250_000, high_priority: 8 }
    }
}

/// There is no room now (or the core has ended); the input was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Try again later.
    Later,
    /// The core has ended.
    Closed,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Later => "the queue to the core is full; send again later",
            Self::Closed => "sidewatch is shutting down",
        })
    }
}

/// What became of an input that may be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It waits for the core under this number.
    Taken(u64),
    /// A part of it waits under this number, so many events were dropped and counted.
    Partly {
        /// The number of what was taken.
        number: u64,
        /// Events that were dropped.
        dropped: usize,
    },
    /// It was dropped and counted.
    Dropped,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Depth {
    /// Inputs.
    pub batches: usize,
    /// Events.
    pub events: usize,
    /// Bytes.
    pub bytes: usize,
}

struct Queued {
    ingest: Ingest,
    need: Need,
    /// Whether the room is of the reserve for urgent events.
    reserved: bool,
    room: Room,
}

/// What the lock holds.
struct Line {
    lanes: Lanes<Queued>,
    depth: [Depth; 2],
    dropped: Dropped,
    closed: bool,
    sinks_gone: bool,
}

struct Shared {
    options: QueueOptions,
    common: Pool,
    reserve: Pool,
    /// Held while an input is numbered and put in line or taken out: a checkpoint that stands for a number stands for
    /// all lower ones.
    line: Mutex<Line>,
    arrived: Notify,
    checkpointed: watch::Sender<u64>,
    checkpoint_wanted: Notify,
    gauges: Gauges,
    full: Counter,
}

struct Gauges {
    batches: Gauge,
    bytes: Gauge,
    events: [Gauge; 2],
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a change of the depth of one line.
    fn show(&self, line: &Line, priority: Priority) {
        let [normal, high] = &line.depth;
        self.gauges.batches.set((normal.batches + high.batches) as f64);
        self.gauges.bytes.set((normal.bytes + high.bytes) as f64);
        self.gauges.events[priority as usize].set(line.depth[priority as usize].events as f64);
    }

    fn put(&self, ingest: Ingest, need: Need, priority: Priority, reserved: bool, room: Room) -> Result<u64, Full> {
        let mut line = self.line();
        if line.closed {
            return Err(Full::Closed);
        }
        let depth = &mut line.depth[priority as usize];
        depth.batches += 1;
        depth.events += need.events;
        depth.bytes += need.bytes;
        let number = line.lanes.push(Queued { ingest, need, reserved, room }, priority);
        self.show(&line, priority);
        drop(line);
        self.arrived.notify_one();
        Ok(number)
    }

    fn left(&self, line: &mut Line, priority: Priority, need: Need) {
        let depth = &mut line.depth[priority as usize];
        depth.batches -= 1;
        depth.events -= need.events;
        depth.bytes -= need.bytes;
        self.show(line, priority);
    }

    /// Makes room by dropping what waits longest of the same source; nothing is dropped when that would not be enough.
    fn displace(&self, source: &Arc<str>, need: Need, priority: Priority) -> Option<Room> {
        let mut guard = self.line();
        let line = &mut *guard;
        let own = |queued: &Queued| {
            !queued.reserved && queued.ingest.droppable().is_some_and(|batch| batch.source == *source)
        };
        let lanes: &[Priority] =
            if priority == Priority::High { &[Priority::Normal, Priority::High] } else { &[Priority::Normal] };
        let held = lanes.iter().flat_map(|lane| line.lanes.lane(*lane)).filter(|queued| own(queued));
        if !self.common.is_enough(need, held.map(|queued| &queued.room)) {
            return None;
        }
        let mut gathered: Option<Room> = None;
        for lane in lanes {
            loop {
                let oldest = line.lanes.lane(*lane).position(own);
                let Some(queued) = oldest.and_then(|at| line.lanes.remove(*lane, at)) else { break };
                self.left(line, *lane, queued.need);
                line.dropped.count(source, "drop_oldest", *lane, queued.ingest.items());
                let room = match gathered.take() {
                    None => queued.room,
                    Some(mut more) => {
                        more.merge(queued.room);
                        more
                    }
                };
                match self.common.fit(room, need) {
                    Ok(room) => return Some(room),
                    Err(room) => gathered = Some(room),
                }
            }
        }
        None
    }
}

/// Tells the core's end when the last sink is gone.
struct Sinks(Arc<Shared>);

impl Drop for Sinks {
    fn drop(&mut self) {
        self.0.line().sinks_gone = true;
        self.0.arrived.notify_one();
    }
}

/// The sources' end; clones share the queue.
#[derive(Clone)]
pub struct IngestSink {
    sinks: Arc<Sinks>,
    overflow: Overflow,
    pace: Option<Pace>,
}

impl fmt::Debug for IngestSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngestSink").field("waiting", &self.waiting()).finish()
    }
}

/// A queue with its two ends.
pub fn queue(options: impl Into<QueueOptions>) -> (IngestSink, IngestQueue) {
    let QueueOptions { limits, events, high_priority } = options.into();
    let limits = QueueLimits {
        batches: limits.batches.clamp(1, u32::MAX as usize),
        bytes: limits.bytes.clamp(1, u32::MAX as usize),
    };
    let options = QueueOptions { limits, events: events.clamp(1, u32::MAX as usize), high_priority };
    self_metrics::queue_capacity_batches().set(limits.batches as f64);
    self_metrics::queue_capacity_bytes().set(limits.bytes as f64);
    self_metrics::queue_capacity_events().set(options.events as f64);
    let (common, reserve) = Pool::pair(&options);
    let line = Line {
        lanes: Lanes::new(),
        depth: [Depth::default(); 2],
        dropped: Dropped::default(),
        closed: false,
        sinks_gone: false,
    };
    let shared = Arc::new(Shared {
        options,
        common,
        reserve,
        line: Mutex::new(line),
        arrived: Notify::new(),
        checkpointed: watch::Sender::new(0),
        checkpoint_wanted: Notify::new(),
        gauges: Gauges {
            batches: self_metrics::queue_batches(),
            bytes: self_metrics::queue_bytes(),
            events: [Priority::Normal, Priority::High].map(|priority| self_metrics::queue_events(priority.word())),
        },
        full: self_metrics::queue_full(),
    });
    let sinks = Arc::new(Sinks(shared.clone()));
    (IngestSink { sinks, overflow: Overflow::Block, pace: None }, IngestQueue { shared })
}

/// An input on its way into the queue.
struct Piece {
    ingest: Ingest,
    need: Need,
    priority: Priority,
}

impl Piece {
    fn new(ingest: Ingest, priority: Priority) -> Self {
        Self { need: ingest.need(), ingest, priority }
    }
}

impl IngestSink {
    fn shared(&self) -> &Shared {
        &self.sinks.0
    }

    /// The same queue, for a source whose events may be dropped when it is full.
    #[must_use]
    pub fn with_overflow(&self, overflow: Overflow) -> Self {
        Self { overflow, ..self.clone() }
    }

    /// The same queue, for a source that may bring only so much.
    #[must_use]
    pub fn with_pace(&self, pace: Option<Pace>) -> Self {
        Self { pace, ..self.clone() }
    }

    /// The same, for one of the source's clients.
    #[must_use]
    pub fn for_client(&self, client: Option<Client>) -> Self {
        Self { pace: self.pace.clone().map(|pace| pace.for_client(client)), ..self.clone() }
    }

    /// Waits for room: this is what slows a source down. With [`IngestSink::with_overflow`] events are dropped instead,
    /// unless they have a position. Returns the input's number.
    ///
    /// # Errors
    /// [`Full::Closed`] when the core has ended.
    pub async fn send(&self, ingest: Ingest) -> Result<u64, Full> {
        if let Some(pace) = &self.pace {
            let may_drop = self.overflow != Overflow::Block && ingest.droppable().is_some();
            if !pace.admit(ingest.events(), may_drop).await {
                return Ok(self.shared().line().lanes.last_number());
            }
        }
        if self.overflow != Overflow::Block && ingest.droppable().is_some() {
            return match self.offer(ingest, self.overflow)? {
                Offered::Taken(number) | Offered::Partly { number, .. } => Ok(number),
                Offered::Dropped => Ok(self.shared().line().lanes.last_number()),
            };
        }
        let (urgent, rest) = self.pieces(ingest);
        // Room for both before either is put: cancelling takes all or nothing. The urgent part comes second and waits for
        // the reserve only: with common room in its hands the rest could wait for it for ever.
        let mixed = urgent.is_some() && rest.is_some();
        let rest = self.with_room(rest, false).await?;
        let urgent = self.with_room(urgent, mixed).await?;
        self.put_all([urgent, rest])
    }

    /// Takes the input at once or not at all. Returns its number.
    ///
    /// # Errors
    /// [`Full::Later`] when there is no room now, [`Full::Closed`] when the core has ended.
    pub fn try_send(&self, ingest: Ingest) -> Result<u64, Full> {
        let outcome = self.try_take(ingest).map_err(|refused| refused.0);
        if outcome == Err(Full::Later) {
            self.shared().full.increment(1);
        }
        outcome
    }

    /// Takes the input at once, and when there is no room, drops as the policy says: what waits longest of the same
    /// source, or this input. With [`Overflow::Block`], and for input with a position, as [`IngestSink::try_send`].
    ///
    /// # Errors
    /// As [`IngestSink::try_send`].
    pub fn offer(&self, ingest: Ingest, overflow: Overflow) -> Result<Offered, Full> {
        if overflow == Overflow::Block || ingest.droppable().is_none() {
            return self.try_send(ingest).map(Offered::Taken);
        }
        let pieces = match self.try_take(ingest) {
            Ok(number) => return Ok(Offered::Taken(number)),
            Err(refused) => match *refused {
                (Full::Closed, _) => return Err(Full::Closed),
                (Full::Later, pieces) => pieces,
            },
        };
        let (mut taken, mut dropped) = (None, 0);
        for piece in pieces.into_iter().flatten() {
            let Some(source) = piece.ingest.droppable().map(|batch| batch.source.clone()) else { continue };
            // Each by itself now: an urgent event may find room where the rest of its batch finds none.
            let room = match self.try_room(piece.need, piece.priority) {
                Ok((room, reserved)) => Some((room, reserved)),
                Err(NoRoom::Closed) => return Err(Full::Closed),
                Err(NoRoom::Later) if overflow == Overflow::DropOldest => {
                    self.shared().displace(&source, piece.need, piece.priority).map(|room| (room, false))
                }
                Err(NoRoom::Later) => None,
            };
            match room {
                Some((room, reserved)) => {
                    let number = self.shared().put(piece.ingest, piece.need, piece.priority, reserved, room)?;
                    taken = Some(number);
                }
                None => {
                    dropped += piece.need.events;
                    self.shared().line().dropped.count(&source, "drop_newest", piece.priority, piece.ingest.items());
                }
            }
        }
        Ok(match taken {
            Some(number) if dropped == 0 => Offered::Taken(number),
            Some(number) => Offered::Partly { number, dropped },
            None => Offered::Dropped,
        })
    }

    /// [`IngestSink::offer`] with the policy of [`IngestSink::with_overflow`].
    ///
    /// # Errors
    /// As [`IngestSink::try_send`].
    pub fn offer_by_policy(&self, ingest: Ingest) -> Result<Offered, Full> {
        let events = ingest.events();
        if self.pace.as_ref().is_some_and(|pace| !pace.try_admit(events)) {
            return Err(Full::Later);
        }
        let offered = self.offer(ingest, self.overflow);
        if let (Err(Full::Later), Some(pace)) = (&offered, &self.pace) {
            pace.give_back(events);
        }
        offered
    }

    /// Takes all inputs at once or none of them, one behind the other.
    ///
    /// # Errors
    /// As [`IngestSink::try_send`].
    pub fn try_send_all(&self, inputs: Vec<Ingest>) -> Result<(), Full> {
        let mut ready = Vec::with_capacity(inputs.len());
        let all_bytes: usize = inputs.iter().map(|ingest| ingest.need().bytes).sum();
        // Larger than everything, they pass alone: the first has all of the room, for the others as well.
        let mut alone = (all_bytes > self.shared().options.limits.bytes).then_some(all_bytes);
        let oversized = alone.is_some();
        for ingest in inputs {
            let (urgent, rest) =
                if oversized { (None, Some(Piece::new(ingest, Priority::Normal))) } else { self.pieces(ingest) };
            for piece in [urgent, rest].into_iter().flatten() {
                let mut need = piece.need;
                if oversized {
                    need.bytes = alone.take().unwrap_or(0);
                }
                // Room that was taken for the others is given back when there is none for this one.
                match self.try_room(need, piece.priority) {
                    Ok((room, reserved)) => ready.push((piece, room, reserved)),
                    Err(NoRoom::Closed) => return Err(Full::Closed),
                    Err(NoRoom::Later) => {
                        self.shared().full.increment(1);
                        return Err(Full::Later);
                    }
                }
            }
        }
        for (piece, room, reserved) in ready {
            self.shared().put(piece.ingest, piece.need, piece.priority, reserved, room)?;
        }
        Ok(())
    }

    fn try_take(&self, ingest: Ingest) -> Result<u64, Box<Refused>> {
        let (urgent, rest) = self.pieces(ingest);
        let room =
            |piece: &Option<Piece>| piece.as_ref().map(|piece| self.try_room(piece.need, piece.priority)).transpose();
        let rooms = room(&urgent).and_then(|first| Ok((first, room(&rest)?)));
        let (first, second) = match rooms {
            Ok(rooms) => rooms,
            Err(NoRoom::Closed) => return Err(Box::new((Full::Closed, [None, None]))),
            Err(NoRoom::Later) => return Err(Box::new((Full::Later, [urgent, rest]))),
        };
        let with = |piece: Option<Piece>, room: Option<(Room, bool)>| {
            piece.zip(room).map(|(piece, (room, reserved))| (piece, room, reserved))
        };
        self.put_all([with(urgent, first), with(rest, second)]).map_err(|full| Box::new((full, [None, None])))
    }

    /// Which line it belongs to. A mixed batch is split, unless its urgent part is more than the reserve holds; what has a
    /// position stays whole and in order.
    fn pieces(&self, ingest: Ingest) -> (Option<Piece>, Option<Piece>) {
        let threshold = self.shared().options.high_priority;
        let Ingest::Batch(mut batch, decoder) = ingest else {
            return (None, Some(Piece::new(ingest, Priority::Normal)));
        };
        let piece = |batch, priority| Some(Piece::new(Ingest::Batch(batch, decoder.clone()), priority));
        let is_urgent = |event: &crate::model::Event| event.priority >= threshold;
        if batch.position.is_some() || !batch.events.iter().any(is_urgent) {
            return (None, piece(batch, Priority::Normal));
        }
        if batch.events.iter().all(is_urgent) {
            return (piece(batch, Priority::High), None);
        }
        let size = |event: &crate::model::Event| batch.text(event.raw).len() + batch.plan.len() * size_of::<Field>();
        let urgent = batch.events.iter().filter(|event| is_urgent(event));
        let need = urgent.fold(Need { bytes: 0, events: 0 }, |need, event| Need {
            bytes: need.bytes + size(event),
            events: need.events + 1,
        });
        if !self.shared().reserve.could_hold(need) {
            return (None, piece(batch, Priority::Normal));
        }
        let urgent = batch.split_off(is_urgent);
        (piece(urgent, Priority::High), piece(batch, Priority::Normal))
    }

    /// Urgent pieces take of the reserve first.
    fn try_room(&self, need: Need, priority: Priority) -> Result<(Room, bool), NoRoom> {
        let shared = self.shared();
        if priority == Priority::High
            && shared.reserve.could_hold_bytes(need)
            && let Ok(room) = shared.reserve.try_take(need)
        {
            return Ok((room, true));
        }
        shared.common.try_take(need).map(|room| (room, false))
    }

    /// `mixed`: the rest of the same batch holds room of the common pool already.
    async fn with_room(&self, piece: Option<Piece>, mixed: bool) -> Result<Option<(Piece, Room, bool)>, Full> {
        let Some(piece) = piece else { return Ok(None) };
        let shared = self.shared();
        let reserved = piece.priority == Priority::High && (mixed || shared.reserve.could_hold(piece.need));
        // At once where there is room anywhere; else in the line that is shorter for it.
        let (room, reserved) = match self.try_room(piece.need, piece.priority) {
            Ok(room) => room,
            Err(NoRoom::Closed) => return Err(Full::Closed),
            Err(NoRoom::Later) => {
                let pool = if reserved { &shared.reserve } else { &shared.common };
                (pool.wait(piece.need).await.map_err(|_| Full::Closed)?, reserved)
            }
        };
        Ok(Some((piece, room, reserved)))
    }

    fn put_all(&self, pieces: [Option<(Piece, Room, bool)>; 2]) -> Result<u64, Full> {
        let mut number = Err(Full::Closed);
        for (piece, room, reserved) in pieces.into_iter().flatten() {
            number = Ok(self.shared().put(piece.ingest, piece.need, piece.priority, reserved, room)?);
        }
        number
    }

    /// Asks for a checkpoint before its time: acknowledgements wait for it.
    pub fn want_checkpoint(&self) {
        self.shared().checkpoint_wanted.notify_one();
    }

    /// The highest number that stands in a checkpoint, as it grows.
    pub fn checkpointed(&self) -> watch::Receiver<u64> {
        self.shared().checkpointed.subscribe()
    }

    /// Inputs and bytes that wait.
    pub fn waiting(&self) -> (usize, usize) {
        let [high, normal] = self.depth();
        (high.batches + normal.batches, high.bytes + normal.bytes)
    }

    /// What waits, in the order of [`Priority::ALL`].
    pub fn depth(&self) -> [Depth; 2] {
        let line = self.shared().line();
        Priority::ALL.map(|priority| line.depth[priority as usize])
    }

    /// The queue's limits.
    pub fn limits(&self) -> QueueLimits {
        self.shared().options.limits
    }

    /// What the queue was made with.
    pub fn options(&self) -> QueueOptions {
        self.shared().options
    }
}

#[cfg(test)]
mod tests;
