//! Brings a Debian 12 machine to the point where everything here can be built and run.
//!
//! What is there already is only looked at: a second run changes nothing.

mod install;
mod packages;
mod temporary_file;
pub(crate) mod toolchain;

use anyhow::{Result, anyhow, bail};

use crate::exec::{command_line_with_variables, exec_to_stderr, step};
use crate::workspace::{Workspace, is_root};

use packages::Package;
use toolchain::{Facts, Toolchain};

/// What to do about something that is missing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Missing {
    /// Install it.
    Install,
    /// Name it with the command that installs it, and fail.
    Report,
}

/// Checks, and installs when asked to, what the builds and the lab need.
pub(crate) fn run(workspace: &Workspace, missing: Missing) -> Result<Toolchain> {
    let facts = Facts::gather(workspace);
    let toolchain = facts.choose();
    let Some(packages) = packages::missing(&toolchain) else {
        return without_dpkg(toolchain, &facts);
    };
    let needed: Vec<_> = packages.into_iter().filter(|package| !package.is_optional()).collect();
    list(&needed, &toolchain, &facts);
    match missing {
        Missing::Report => report(workspace, &needed, &toolchain)?,
        Missing::Install => install(workspace, &needed, &toolchain)?,
    }
    step(format_args!("set-up: complete; eBPF objects are built with {toolchain}"));
    Ok(toolchain)
}

/// What can be done on another system than Debian: little, and only with rustup's toolchain.
fn without_dpkg(toolchain: Toolchain, facts: &Facts) -> Result<Toolchain> {
    if let Toolchain::Debian { .. } = toolchain {
        bail!(
            "nothing here builds eBPF objects: there is no dpkg-query to find Debian's rustc-web, \
             and {}",
            facts.why_not_rustup()
        );
    }
    step("set-up: no dpkg-query here, so nobody checked for what is in these Debian packages");
    eprintln!("    {}", packages::names(&packages::wanted(&toolchain)).join(" "));
    Ok(toolchain)
}

fn list(packages: &[&Package], toolchain: &Toolchain, facts: &Facts) {
    if packages.is_empty() {
        return;
    }
    step("set-up: Debian packages that are missing");
    for package in packages {
        eprintln!("    {:<24} {}", package.name, package.why);
    }
    if let Toolchain::Debian { .. } = toolchain {
        eprintln!("    (the eBPF toolchain is Debian's, as {})", facts.why_not_rustup());
    }
}

fn install(workspace: &Workspace, packages: &[&Package], toolchain: &Toolchain) -> Result<()> {
    if !packages.is_empty() {
        if !is_root() {
            bail!("installing packages needs root; type: {}", packages::typed(packages, false));
        }
        install::install(packages)?;
        let mut still = packages::missing(toolchain).unwrap_or_default();
        still.retain(|package| !package.is_optional());
        if !still.is_empty() {
            bail!(
                "apt-get succeeded, and yet packages are missing; type: {}",
                packages::typed(&still, true)
            );
        }
    }
    if toolchain.lacks_linker() {
        step("set-up: installing bpf-linker, which takes a minute or two");
        exec_to_stderr(&mut toolchain::linker_install(workspace))?;
        if toolchain.lacks_linker() {
            bail!(
                "bpf-linker was installed and does not run; type: {}",
                command_line_with_variables(&toolchain::linker_install(workspace))
            );
        }
    }
    Ok(())
}

/// Has what only some tests need, or says that they will be skipped, as each of them does again.
pub(crate) fn for_tests(workspace: &Workspace, missing: Missing) -> Result<()> {
    let toolchain = Facts::gather(workspace).choose();
    let packages = packages::missing(&toolchain).unwrap_or_default();
    let packages: Vec<_> = packages.into_iter().filter(|package| package.is_optional()).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let installed = match missing {
        Missing::Install if is_root() => install::install(&packages),
        Missing::Install => Err(anyhow!("installing packages needs root")),
        Missing::Report => Err(anyhow!("--no-install was given")),
    };
    if let Err(error) = installed {
        if error.is::<install::Interrupted>() {
            return Err(error);
        }
        step(format_args!(
            "set-up: tests that need {} will be SKIPPED ({error:#}); to have them, type: {}",
            packages::names(&packages).join(", "),
            packages::typed(&packages, is_root())
        ));
    }
    Ok(())
}

fn report(workspace: &Workspace, packages: &[&Package], toolchain: &Toolchain) -> Result<()> {
    let mut commands = Vec::new();
    if !packages.is_empty() {
        eprintln!("    (without --no-install they are installed with no service started)");
        commands.push(packages::typed(packages, is_root()));
    }
    if toolchain.lacks_linker() {
        step("set-up: bpf-linker is missing, which links the eBPF objects");
        commands.push(command_line_with_variables(&toolchain::linker_install(workspace)));
    }
    if !commands.is_empty() {
        bail!("--no-install was given and something is missing; type: {}", commands.join(" && "));
    }
    Ok(())
}
