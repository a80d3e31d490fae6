use std::env;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::passfile::{self, PassfileError, Password, Wanted};

/// How to log in to PostgreSQL. It holds no secret: passwords are looked up when they are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub(super) user: String,
    pub(super) dbname: String,
    pub(super) passfile: Option<PathBuf>,
}

impl Login {
    /// The role.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database.
    #[must_use]
    pub fn dbname(&self) -> &str {
        &self.dbname
    }

    /// The password file.
    #[must_use]
    pub fn passfile(&self) -> Option<&Path> {
        self.passfile.as_deref()
    }

    /// The password for the server at `host:port`: the first match in the password file, else the
    /// environment variable `PGPASSWORD`. The file is read each time, so an edit needs no reload.
    ///
    /// # Errors
    /// The password file cannot be read, or others than its owner may read it.
    pub fn password_for(&self, host: IpAddr, port: u16) -> Result<Option<Password>, PassfileError> {
        let found = match &self.passfile {
            Some(path) => {
                let wanted = Wanted {
                    host: &host.to_string(),
                    port: &port.to_string(),
                    dbname: &self.dbname,
                    user: &self.user,
                };
                passfile::lookup(&passfile::read(path)?, &wanted)
            }
            None => None,
        };
        Ok(found.or_else(|| {
            use std::os::unix::ffi::OsStringExt as _;
            env::var_os("PGPASSWORD")
                .filter(|value| !value.is_empty())
                .map(|value| Password::new(value.into_vec()))
        }))
    }

    pub(super) fn check(&self) -> Result<(), PassfileError> {
        self.passfile.as_deref().map_or(Ok(()), |path| passfile::read(path).map(drop))
    }
}
