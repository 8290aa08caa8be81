//! What a move came to, in numbers of both sides.

/// What is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Kind {
    /// Subscriptions, ended ones too: they name their users.
    Subscriptions,
    /// Pauses that run.
    Pauses,
    /// Notifications, with the state of their fan-out.
    Notifications,
    /// Deliveries, open and closed.
    Deliveries,
    /// Events not published yet.
    Events,
    /// Dead letters.
    DeadLetters,
}

/// The kinds that are counted by their ids alone. Pauses have none, deliveries are counted by their versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ById {
    Subscriptions,
    Notifications,
    Events,
    DeadLetters,
}

impl ById {
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Subscriptions => Kind::Subscriptions,
            Self::Notifications => Kind::Notifications,
            Self::Events => Kind::Events,
            Self::DeadLetters => Kind::DeadLetters,
        }
    }
}

impl Kind {
    /// All of them, in the order in which they are moved.
    pub const ALL: [Self; 6] =
        [Self::Subscriptions, Self::Pauses, Self::Notifications, Self::Deliveries, Self::Events, Self::DeadLetters];

    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subscriptions => "subscriptions",
            Self::Pauses => "pauses",
            Self::Notifications => "notifications",
            Self::Deliveries => "deliveries",
            Self::Events => "events",
            Self::DeadLetters => "dead letters",
        }
    }
}

/// Why something is not in the database, and need not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Skip {
    /// The notification's app, user and key are there as another notification: a duplicate. Its deliveries are skipped too.
    KeyTaken,
    /// The database has made a delivery of its own of that notification to that subscription.
    OwnDelivery,
    /// It was moved before, and published, removed or resumed there since.
    DoneThere,
}

impl Skip {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::KeyTaken, Self::OwnDelivery, Self::DoneThere];

    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyTaken => "the same key is there as another notification",
            Self::OwnDelivery => "the database made its own delivery",
            Self::DoneThere => "moved before and dealt with there",
        }
    }
}

/// One kind on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// In the file.
    pub files: u64,
    /// Of those, in the database.
    pub database: u64,
    /// Of those, not there and need not be, by [`Skip::ALL`].
    pub skipped: [u64; Skip::ALL.len()],
    /// Of those, not there and should be.
    pub missing: u64,
    /// Inserted by this move.
    pub moved: u64,
    /// Were there, and made newer by this move.
    pub updated: u64,
    /// Subscriptions moved (or made) as ended, because the database has another active one with their token.
    pub replaced: u64,
}

impl Counts {
    pub(super) fn count(&mut self, there: bool, skip: Option<Skip>) {
        self.files += 1;
        match (there, skip) {
            (true, _) => self.database += 1,
            (false, Some(skip)) => self.skipped[skip as usize] += 1,
            (false, None) => self.missing += 1,
        }
    }

    /// Were in the database before this move.
    pub const fn already_there(&self) -> u64 {
        self.database.saturating_sub(self.moved)
    }

    /// Nothing is missing.
    pub const fn agrees(&self) -> bool {
        self.missing == 0
    }
}

/// The open deliveries of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Open {
    /// In the file.
    pub files: u64,
    /// Of those, in the database as in the file, or further.
    pub database: u64,
    /// Of those, open there now.
    pub open_there: u64,
    /// Of those, not there and need not be.
    pub skipped: u64,
}

impl Open {
    /// `there`: whether it is open, and whether it is as far as the file's.
    pub(super) fn count(&mut self, there: Option<(bool, bool)>, skipped: bool) {
        self.files += 1;
        match there {
            Some((open, current)) => {
                self.database += u64::from(current);
                self.open_there += u64::from(open);
            }
            None => self.skipped += u64::from(skipped),
        }
    }

    /// Nothing is missing or behind.
    pub const fn agrees(&self) -> bool {
        self.files == self.database + self.skipped
    }
}

/// Both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compared {
    pub(super) of: [Counts; Kind::ALL.len()],
    /// The open deliveries among [`Kind::Deliveries`].
    pub open: Open,
}

impl Compared {
    /// One kind.
    pub const fn of(&self, kind: Kind) -> &Counts {
        &self.of[kind as usize]
    }

    /// Everything in the file is in the database, or need not be.
    pub fn agrees(&self) -> bool {
        self.open.agrees() && self.of.iter().all(Counts::agrees)
    }
}
