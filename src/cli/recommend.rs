//! x

use crate::error::Result;
use clap::Args;
/// x
#[derive(Debug, Args)]
pub struct Recommend {}
impl Recommend {
    pub(super) fn answer(&self) -> Result<()> {
        Ok(())
    }
}
