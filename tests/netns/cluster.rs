//! A primary, readers, a director and a client: what most scenarios begin with.
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddrV4, TcpStream};
use std::process::Output;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use pgha_tests::lab::postgres::{PORT, bin_directory};
use pgha_tests::lab::{
    Cmd, Director, Host, Lab, Postgres, PostgresOptions, READER_VIP, SOON, Session, config, plan,
    wait_for,
};
use serde_json::Value;

/// How long a reader may take to be out, ten times over.
pub(crate) const OUT_AT_ONCE: Duration = Duration::from_secs(3);

/// PostgreSQL documentation, "Message Formats": its length and the code.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// What is exchanged in the lab's usual configuration.
pub(crate) type Edits<'e> = [(&'e str, &'e str)];

/// How many new connections each server got.
pub(crate) type Shares = BTreeMap<String, u64>;

/// A cluster behind one director.
pub(crate) struct Cluster {
    pub(crate) lab: Lab,
    pub(crate) primary: Postgres,
    pub(crate) readers: Vec<Postgres>,
    pub(crate) director: Director,
    pub(crate) client: Host,
}

impl Cluster {
    /// The primary db1 and readers that own the VIP; the director is not started.
    pub(crate) fn prepared(readers: &[&str]) -> Result<Self> {
        Self::prepared_for(&[READER_VIP.into()], readers)
    }

    /// [`Self::prepared`] with readers that own these VIPs.
    pub(crate) fn prepared_for(vips: &[IpAddr], readers: &[&str]) -> Result<Self> {
        Self::prepared_in(Lab::new()?, vips, readers)
    }

    /// [`Self::prepared_for`] in a lab where some of the hosts may be already, wherever they are.
    pub(crate) fn prepared_in(lab: Lab, vips: &[IpAddr], readers: &[&str]) -> Result<Self> {
        Self::make(lab, vips, readers, &PostgresOptions::default())
    }

    /// As [`Self::prepared`], every server with these options.
    pub(crate) fn prepared_with(readers: &[&str], options: &PostgresOptions) -> Result<Self> {
        Self::make(Lab::new()?, &[READER_VIP.into()], readers, options)
    }

    fn make(
        lab: Lab,
        vips: &[IpAddr],
        readers: &[&str],
        options: &PostgresOptions,
    ) -> Result<Self> {
        lab.hosts(&[&["db1", "lb1", "client"], readers].concat())?;
        // The readers copy its settings.
        let primary = lab.primary_with("db1", options)?;
        let director = lab.director("lb1")?;
        let client = lab.host("client")?;
        let readers = thread::scope(|scope| {
            let owners =
                scope.spawn(|| readers.iter().try_for_each(|r| lab.realserver_setup_for(r, vips)));
            let standbys = lab.standbys(readers, "db1");
            owners.join().expect("no panic")?;
            standbys
        })?;
        Ok(Self { lab, primary, readers, director, client })
    }

    /// A prepared cluster whose director serves by the lab's usual configuration, but for these
    /// edits; every reader gets clients.
    pub(crate) fn up(readers: &[&str], edits: &Edits<'_>) -> Result<Self> {
        let cluster = Self::prepared(readers)?;
        cluster.configure(edits)?;
        cluster.director.start()?;
        cluster.wait_serving(readers)?;
        Ok(cluster)
    }

    /// The lab's usual configuration with edits.
    pub(crate) fn config(&self, edits: &Edits<'_>) -> Result<String> {
        edited(config::basic(&self.lab, &self.director, &["db1"])?, edits)
    }

    /// Writes the lab's usual configuration with edits.
    pub(crate) fn configure(&self, edits: &Edits<'_>) -> Result<()> {
        self.director.write_config(&self.config(edits)?)
    }

    /// The reader on that host.
    pub(crate) fn reader(&self, name: &str) -> Result<&Postgres> {
        let found = self.readers.iter().find(|reader| reader.host().name() == name);
        found.with_context(|| format!("no reader {name}"))
    }

    /// What the status says of the first service's servers, by host name.
    pub(crate) fn servers(&self) -> Result<BTreeMap<String, Value>> {
        servers(&self.director.status()?, "reader")
    }

    /// What the status says of one server of the first service.
    pub(crate) fn server(&self, name: &str) -> Result<Value> {
        self.servers()?.remove(name).with_context(|| format!("{name} is no member"))
    }

    /// The id of a server in the data plane.
    pub(crate) fn id(&self, name: &str) -> Result<u16> {
        Ok(self.server(name)?["id"].as_u64().context("an id")?.try_into()?)
    }

    /// The weights in force, by host name.
    pub(crate) fn weights(&self) -> Result<Shares> {
        self.servers()?.into_iter().map(|(name, server)| Ok((name, weight(&server)?))).collect()
    }

    /// Waits until these servers, and no others, have these weights.
    pub(crate) fn wait_weights(&self, wanted: &[(&str, u64)]) -> Result<()> {
        let wanted = shares(wanted);
        wait_for(format_args!("the weights {wanted:?}"), SOON, || {
            let servers = self.servers()?;
            let weights: Shares =
                servers.iter().map(|(n, s)| Ok((n.clone(), weight(s)?))).collect::<Result<_>>()?;
            if weights != wanted {
                bail!("{weights:?} of {servers:#?}");
            }
            Ok(Some(()))
        })
    }

    /// Waits until these servers have a weight above 0.
    pub(crate) fn wait_serving(&self, names: &[&str]) -> Result<()> {
        wait_for(format_args!("{names:?} to serve"), SOON, || {
            let servers = self.servers()?;
            for name in names {
                let server = servers.get(*name).with_context(|| format!("{name} is no member"))?;
                ensure!(weight(server)? > 0, "{server:#}");
            }
            Ok(Some(()))
        })
    }

    /// One connection of psql from the client through the VIP.
    pub(crate) fn psql(&self, sql: &str) -> Result<String> {
        psql(&self.client, sql)?.run()
    }

    /// A session through the VIP.
    pub(crate) fn session(&self) -> Result<Session> {
        Session::open(&self.client, READER_VIP)
    }

    /// A session through the VIP that happens to be with that server.
    pub(crate) fn session_with(&self, server: &str) -> Result<Session> {
        for _ in 0..200 {
            let session = self.session()?;
            if session.server()? == server {
                return Ok(session);
            }
        }
        bail!("none of 200 sessions was with {server}")
    }

    /// Opens sessions through the VIP, one after the other, and says who served them.
    pub(crate) fn served(&self, count: usize) -> Result<Shares> {
        let mut served = Shares::new();
        for _ in 0..count {
            *served.entry(self.session()?.server()?).or_default() += 1;
        }
        Ok(served)
    }

    /// Opens connections through the VIP that only ask for TLS, one after the other, and counts
    /// whom the data plane gave them.
    pub(crate) fn connects(&self, count: usize) -> Result<Shares> {
        let before = self.flows()?;
        let vip = SocketAddrV4::new(READER_VIP, PORT);
        self.client.inside(|| {
            for _ in 0..count {
                let mut stream = TcpStream::connect_timeout(&vip.into(), SOON)?;
                stream.set_read_timeout(Some(SOON))?;
                // Its answer says that a process of PostgreSQL has come to it: they do not pile up.
                stream.write_all(&SSL_REQUEST)?;
                stream.read_exact(&mut [0])?;
            }
            Ok(())
        })?;
        let mut flows = self.flows()?;
        for (name, flows) in &mut flows {
            *flows -= before.get(name).copied().unwrap_or_default();
        }
        Ok(flows)
    }

    /// How many flows each server got so far.
    pub(crate) fn flows(&self) -> Result<Shares> {
        let status = self.director.status()?;
        let traffic = &service(&status, "reader")?["traffic"];
        let flows_of = |(name, server): (String, Value)| {
            let flows = traffic[server["id"].to_string()]["flows"].as_u64().context("flows")?;
            Ok((name, flows))
        };
        servers(&status, "reader")?.into_iter().map(flows_of).collect()
    }

    /// What the director logged so far of `text`.
    pub(crate) fn logged(&self, text: &str) -> Result<usize> {
        Ok(self.director.log()?.matches(text).count())
    }
}

/// What a program that succeeded wrote.
pub(crate) fn success(output: Output) -> Result<String> {
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A text with each pattern exchanged; each must be there.
pub(crate) fn edited(mut text: String, edits: &Edits<'_>) -> Result<String> {
    for (from, to) in edits {
        ensure!(text.contains(from), "`{from}` is not in:\n{text}");
        text = text.replacen(from, to, 1);
    }
    Ok(text)
}

/// One connection of psql through the VIP, unaligned and without headers.
pub(crate) fn psql(from: &Host, sql: &str) -> Result<Cmd> {
    let psql = from.command([bin_directory()?.join("psql")])?;
    Ok(psql.args(["-XAtq", "-h", &READER_VIP.to_string(), "-c", sql]))
}

/// The service of that name.
pub(crate) fn service<'s>(status: &'s Value, name: &str) -> Result<&'s Value> {
    let services = status["services"].as_array().context("services")?;
    let found = services.iter().find(|service| service["name"] == name);
    found.with_context(|| format!("no service {name} in {status:#}"))
}

/// The servers of a service by host name, or by address where no host has that.
pub(crate) fn servers(status: &Value, name: &str) -> Result<BTreeMap<String, Value>> {
    let servers = service(status, name)?["servers"].as_array().context("servers")?;
    let named = |server: &Value| {
        let address = server["address"].as_str().context("an address")?;
        let name = match address.parse()? {
            IpAddr::V4(address) => plan::name_at(address),
            IpAddr::V6(_) => None,
        };
        let name = name.unwrap_or_else(|| address.to_owned());
        Ok((name, server.clone()))
    };
    servers.iter().map(named).collect()
}

/// The weight in force.
pub(crate) fn weight(server: &Value) -> Result<u64> {
    server["effective_weight"].as_u64().context("a weight")
}

/// Names with numbers.
pub(crate) fn shares(of: &[(&str, u64)]) -> Shares {
    of.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect()
}

/// The reasons for which a server gets no new connections.
pub(crate) fn withheld(server: &Value) -> Vec<&str> {
    let reasons = server["withheld"].as_array().map(Vec::as_slice).unwrap_or_default();
    reasons.iter().filter_map(Value::as_str).collect()
}
