//! Backups, and what a store shows that was restored from one.

use std::sync::Arc;

use super::observe::observe;
use super::world::{Failure, World};
use crate::error::EngineError;
use crate::io::{Memory, SharedFileSystem};
use crate::store::{BackupOptions, Store};

const BACKUP: &str = "/backup";
const RESTORED: &str = "/restored";

impl World {
    /// Makes or renews the backup. A store restored from it shows what the store shows now, and as of
    /// earlier what it shows of that.
    pub(super) fn back_up(&mut self, seed: u64) -> Result<(), Failure> {
        let back_up = |world: &Self| {
            let target: SharedFileSystem = Arc::new(world.backups.clone());
            let options = BackupOptions::default();
            world.store().backup_on(&target, BACKUP, &options)
        };
        let mut result = back_up(self);
        // A cut takes back generations that nothing acknowledged depends on: the backup may be of a later
        // one, and is then refused.
        if self.was_cut && matches!(result, Err(EngineError::InvalidArgument(_))) {
            self.backups = Memory::new();
            result = back_up(self);
        }
        if !self.upkeep(result)? {
            return Ok(());
        }
        self.was_cut = false;
        self.model.durable();
        self.look_at_backup(seed)
            .map_err(|failure| format!("restored: {failure}"))
    }

    fn look_at_backup(&mut self, seed: u64) -> Result<(), Failure> {
        let fs: SharedFileSystem = Arc::new(self.backups.snapshot());
        let store = Store::restore_on(&fs, BACKUP, RESTORED, &BackupOptions::default())
            .and_then(|_| Store::open_on(fs, RESTORED, self.options.clone()))
            .map_err(|error| error.to_string())?;
        let shown = observe(&store, &self.contexts).map_err(|error| error.to_string())?;
        let floor = self.model.floor;
        self.model
            .observe(|expected| expected.difference(&shown, floor))?;
        match self.moment(seed) {
            Some(moment) => self.check_as_of(&store, moment),
            None => Ok(()),
        }
    }
}
