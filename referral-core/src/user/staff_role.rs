//! Roles of staff.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::{catalog::ErrorCode, input::InvalidInput};

/// Role of a user who is staff. Each role has all rights of the roles before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StaffRole {
    /// May see all data, and unlock phones and end sessions except those of admins.
    Support,
    /// May also change and delete users, and give roles.
    Admin,
}

impl StaffRole {
    /// All roles.
    pub const ALL: [Self; 2] = [Self::Support, Self::Admin];

    /// Returns the stable name under which the role is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Support => "support",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for StaffRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StaffRole {
    type Err = InvalidInput;

    fn from_str(input: &str) -> Result<Self, InvalidInput> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == input);
        role.ok_or_else(|| ErrorCode::InvalidRole.into())
    }
}
