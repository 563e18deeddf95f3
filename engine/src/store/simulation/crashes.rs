//! Ends of the store, and what must be there afterwards.

use super::random::Random;
use super::step::{Armed, Ending};
use super::world::{Failure, World};

impl World {
    /// Ends the store and opens it again; what it shows then must be explained by the model.
    pub(super) fn reopen(&mut self, ending: Ending, fault: Option<Armed>) -> Result<(), Failure> {
        self.end(ending)?;
        if let Some(armed) = fault {
            self.arm(armed);
            match self.open() {
                Ok(store) => self.store = Some(store),
                Err(error) => {
                    self.trace.push(format!("  opening failed: {error}"));
                    if !self.had_trouble() || matches!(error, crate::EngineError::Corruption(_)) {
                        return Err(format!("opening failed without a reason: {error:?}"));
                    }
                    let ending = match ending {
                        Ending::Close => Ending::Kill,
                        other => other,
                    };
                    self.end(ending)?;
                }
            }
        }
        if self.store.is_none() {
            self.memory.set_capacity(None);
            self.is_full = false;
            match self.open() {
                Ok(store) => self.store = Some(store),
                Err(error) => return Err(format!("cannot be opened: {error:?}")),
            }
        }
        let shown = self.observe()?;
        let after_power_cut = matches!(ending, Ending::PowerCut { .. });
        self.model
            .resolve(&shown, after_power_cut)
            .map_err(|difference| format!("after opening: {difference}"))
    }

    fn end(&mut self, ending: Ending) -> Result<(), Failure> {
        let store = self.store.take();
        self.was_cut |= ending != Ending::Close;
        match ending {
            Ending::Close => {
                if let Some(store) = store {
                    let closed = store.clone().close();
                    self.upkeep(closed)?;
                    if store.begin(&self.contexts[0]).is_ok() {
                        return Err("a closed store takes writes".into());
                    }
                }
            }
            Ending::Kill => {
                // The file system in memory takes the files away from the reader too.
                self.reader = None;
                self.memory.kill();
                drop(store);
            }
            Ending::PowerCut { keep } => {
                self.reader = None;
                let mut random = Random::new(keep);
                self.memory.crash_keeping(|| keep != 0 && random.once_in(2));
                drop(store);
            }
        }
        self.renew_fs();
        Ok(())
    }
}
