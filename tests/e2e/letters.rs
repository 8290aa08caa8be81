//! The dead letters of a test's world.

use herald_store::{DeadFilter, DeadLetter, DeadPage};

use crate::world::World;

impl World {
    /// How many dead letters there are.
    pub(crate) async fn dead_count(&self) -> herald_store::Result<u64> {
        self.store().dead_matching(&DeadFilter::default()).await
    }

    /// All dead letters, the newest first.
    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetter> {
        let (all, newest) = (DeadFilter::default(), DeadPage::NewestBefore(None));
        let mut letters = Vec::new();
        for entry in self.store().dead_page(&all, newest, i64::MAX).await.unwrap() {
            letters.extend(self.store().dead_letter(entry.key.id).await.unwrap());
        }
        letters
    }
}
