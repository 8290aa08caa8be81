//! What a move came to, for people and as JSON.

use herald_core::time::Timestamp;
use herald_store::moving::{Compared, Counts, Kind, Skip};
use serde_json::{Map, Value, json};

use super::queue;
use crate::out;

/// Both sides of store and queue.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Nothing was moved.
    pub(super) dry_run: bool,
    /// How far the database's clock is ahead.
    pub(super) clock_difference_ms: i64,
    pub(super) store: Compared,
    /// Empty if there is no queue's file.
    pub(super) queue: Vec<queue::Counts>,
    /// When the file was marked as moved.
    pub(super) marked: Option<Timestamp>,
}

impl Report {
    /// Everything is on the other side.
    pub(super) fn agrees(&self) -> bool {
        self.store.agrees() && self.queue.iter().all(|queue| queue.left == 0)
    }

    /// What is not, in one line.
    pub(super) fn differences(&self) -> String {
        let mut all = Vec::new();
        for kind in Kind::ALL {
            let missing = self.store.of(kind).missing;
            if missing > 0 {
                all.push(format!("{missing} {} are not in the database", kind.as_str()));
            }
        }
        let open = &self.store.open;
        if !open.agrees() {
            let behind = open.files.saturating_sub(open.database + open.skipped);
            all.push(format!("{behind} open deliveries are missing or older there"));
        }
        all.extend(self.queue.iter().filter(|q| q.left > 0).map(|q| format!("{} wait in {}", q.left, q.source)));
        format!("the two sides differ: {}", all.join(", "))
    }

    /// Writes it to stdout.
    ///
    /// # Errors
    /// When stdout can't be written.
    pub(super) fn print(&self, json: bool) -> std::io::Result<()> {
        if json {
            return out::json(&self.value());
        }
        out::table(
            ["STORE", "IN FILES", "MOVED", "UPDATED", "THERE BEFORE", "SKIPPED", "IN DATABASE", ""],
            &self.rows(),
        )?;
        if !self.queue.is_empty() {
            out::line("")?;
            out::table(["QUEUE", "IN FILES", "MOVED", "LEFT", "ON BROKER"], &self.queue_rows())?;
        }
        out::line("")?;
        out::line(self.conclusion())
    }

    fn rows(&self) -> Vec<[String; 8]> {
        let mut rows = Vec::new();
        for kind in Kind::ALL {
            let counts = self.store.of(kind);
            rows.push([
                kind.as_str().to_owned(),
                counts.files.to_string(),
                counts.moved.to_string(),
                counts.updated.to_string(),
                counts.already_there().to_string(),
                counts.skipped.iter().sum::<u64>().to_string(),
                counts.database.to_string(),
                self.notes(counts),
            ]);
            if kind == Kind::Deliveries {
                let open = &self.store.open;
                let note = format!("as in the files or further; {} open there", open.open_there);
                let [files, skipped, database] = [open.files, open.skipped, open.database].map(|n| n.to_string());
                let none = String::new;
                rows.push(["  of them open".to_owned(), files, none(), none(), none(), skipped, database, note]);
            }
        }
        rows
    }

    fn notes(&self, counts: &Counts) -> String {
        let mut notes = Vec::new();
        for skip in Skip::ALL {
            let skipped = counts.skipped[skip as usize];
            if skipped > 0 {
                notes.push(format!("{skipped} skipped: {}", skip.as_str()));
            }
        }
        if counts.replaced > 0 {
            notes.push(format!("{} ended: another has their token there", counts.replaced));
        }
        if counts.missing > 0 {
            notes.push(format!("{} {}", counts.missing, if self.dry_run { "to be moved" } else { "MISSING" }));
        }
        notes.join("; ")
    }

    fn queue_rows(&self) -> Vec<[String; 5]> {
        let row = |queue: &queue::Counts| {
            let broker = queue.broker.map_or_else(|| "-".to_owned(), |ready| ready.to_string());
            let [files, moved, left] = [queue.files, queue.moved, queue.left].map(|n| n.to_string());
            [queue.source.queue().to_owned(), files, moved, left, broker]
        };
        self.queue.iter().map(row).collect()
    }

    fn conclusion(&self) -> String {
        if self.dry_run {
            return "nothing was moved (--dry-run)".to_owned();
        }
        match self.marked {
            Some(at) => format!("all is moved; the files are marked as of {at}, and no worker starts on them again"),
            None => "not all is moved; the files are not marked".to_owned(),
        }
    }

    fn value(&self) -> Value {
        let store: Map<String, Value> =
            Kind::ALL.into_iter().map(|kind| (name(kind), value(self.store.of(kind)))).collect();
        let queue = |queue: &queue::Counts| {
            let counts =
                json!({"files": queue.files, "moved": queue.moved, "left": queue.left, "broker": queue.broker});
            (queue.source.queue().to_owned(), counts)
        };
        let open = &self.store.open;
        json!({
            "agrees": self.agrees(),
            "dryRun": self.dry_run,
            "markedAt": self.marked,
            "clockDifferenceMs": self.clock_difference_ms,
            "store": store,
            "openDeliveries": {
                "files": open.files,
                "database": open.database,
                "openThere": open.open_there,
                "skipped": open.skipped,
            },
            "queue": self.queue.iter().map(queue).collect::<Map<_, _>>(),
        })
    }
}

fn name(kind: Kind) -> String {
    match kind {
        Kind::DeadLetters => "deadLetters".to_owned(),
        other => other.as_str().to_owned(),
    }
}

fn value(counts: &Counts) -> Value {
    let skipped = |skip: Skip| {
        let name = match skip {
            Skip::KeyTaken => "keyTaken",
            Skip::OwnDelivery => "ownDelivery",
            Skip::DoneThere => "doneThere",
        };
        (name.to_owned(), counts.skipped[skip as usize].into())
    };
    json!({
        "files": counts.files,
        "moved": counts.moved,
        "updated": counts.updated,
        "thereBefore": counts.already_there(),
        "replaced": counts.replaced,
        "skipped": Skip::ALL.into_iter().map(skipped).collect::<Map<String, Value>>(),
        "missing": counts.missing,
        "database": counts.database,
    })
}

#[cfg(test)]
mod tests {
    use herald_queue::Source;

    use super::*;

    #[test]
    fn what_is_left_in_a_queue_is_a_difference_and_named() {
        let mut report = Report::default();
        assert!(report.agrees());
        let waiting = queue::Counts { source: Source::Receipts, files: 3, moved: 1, left: 2, broker: Some(1) };
        report.queue.push(waiting);
        assert!(!report.agrees());
        assert_eq!(report.differences(), "the two sides differ: 2 wait in herald.receipts");
        assert_eq!(report.conclusion(), "not all is moved; the files are not marked");
        assert_eq!(report.value()["queue"]["herald.receipts"]["left"], 2);
        assert_eq!(report.value()["store"]["deadLetters"]["skipped"]["keyTaken"], 0);
    }
}
