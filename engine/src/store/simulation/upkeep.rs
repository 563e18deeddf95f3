//! Steps that change files and not what is shown.

use super::world::{Failure, World};

impl World {
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        let result = self.store().flush();
        if self.upkeep(result)? {
            self.model.durable();
        }
        Ok(())
    }

    pub(super) fn compact(&mut self) -> Result<(), Failure> {
        self.expire();
        let result = self.store().compact();
        if self.upkeep(result)? {
            self.model.durable();
        }
        Ok(())
    }

    pub(super) fn housekeeping(&mut self) -> Result<(), Failure> {
        self.expire();
        let result = self.store().inner.housekeep();
        self.upkeep(result).map(|_| ())
    }

    /// From now on rows beyond the retention may be gone.
    fn expire(&mut self) {
        if let Some(retention) = self.options.retention {
            let oldest = self.now() - retention.as_nanos() as i64;
            self.model.floor = self.model.floor.max(oldest);
        }
    }
}
