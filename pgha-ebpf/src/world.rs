//! What a decision is made from, here: the maps as they are.

use core::marker::PhantomData;

use pgha_common::balance::World;
use pgha_common::flow::Flow;
use pgha_common::maps::{FlowKey, RealServer, Service, ServiceKey};

use crate::flows::{self, FlowTables};
use crate::{director, protect, reals, services};

/// The maps, as one family sees them.
pub(crate) struct Kernel<F>(PhantomData<F>);

impl<F: FlowTables> Kernel<F> {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<F: FlowTables> World<F::Address> for Kernel<F> {
    type Entry = flows::Entry;

    #[inline(always)]
    fn established(&self, key: &FlowKey<F::Address>) -> Option<flows::Entry> {
        flows::Entry::find(F::established(), key)
    }

    #[inline(always)]
    fn pending(&self, key: &FlowKey<F::Address>) -> Option<flows::Entry> {
        flows::Entry::find(F::pending(), key)
    }

    #[inline(always)]
    fn flow(&self, entry: flows::Entry) -> Flow {
        entry.flow
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<Service> {
        services::find(key)
    }

    #[inline(always)]
    fn is_vip(&self, address: F::Address) -> bool {
        director::is_vip(address)
    }

    #[inline(always)]
    fn allows(&self, service: &Service, client: F::Address) -> bool {
        protect::allows(service, client)
    }

    #[inline(always)]
    fn admits(&self, service: &Service, client: F::Address) -> bool {
        protect::admits(service, client)
    }

    #[inline(always)]
    fn slot(&self, service: &Service, slot: usize) -> Option<u16> {
        services::slot(service, slot)
    }

    #[inline(always)]
    fn turn(&self, service: &Service) -> Option<u16> {
        services::turn(service)
    }

    #[inline(always)]
    fn open_flows(&self, id: u16) -> u64 {
        reals::open_flows(id)
    }

    #[inline(always)]
    fn real(&self, id: u16) -> Option<&RealServer> {
        reals::get(id)
    }
}
