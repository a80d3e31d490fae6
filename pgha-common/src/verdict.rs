//! The verdicts: every frame gets exactly one reason, every reason has one action and one counter.

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sent on to a real server, only its MAC addresses changed.
    Forward,
    /// Turned into an answer and sent back to where it came from.
    Answer,
    /// Handed to the kernel of this node, byte-identical.
    Pass,
    /// Ends here.
    Drop,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal => $action:ident,)+) => {
        /// Why a frame got its verdict. The discriminant is the index of its counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the discriminants.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];
            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// What happens to a frame for this reason.
            #[must_use]
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self {
                    $(Self::$variant => Action::$action,)+
                }
            }

            /// The name in counters, logs and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc,)+).trim_ascii(),)+
                }
            }
        }
    };
}

reasons! {
    /// SYN of a new flow: the scheduler picked a real server.
    NewFlow = "new_flow" => Forward,
    /// SYN of a known flow (retransmitted, or a reused port): the same real server.
    SynAgain = "syn_again" => Forward,
    /// Segment of a flow that the server has not been seen to answer yet.
    PendingFlow = "pending_flow" => Forward,
    /// Segment of an established flow.
    EstablishedFlow = "established_flow" => Forward,
    /// Segment of a flow this director does not know: the real server of the Maglev table.
    UnknownFlow = "unknown_flow" => Forward,
    /// RST of a flow this director does not know: the real server of the Maglev table, not remembered.
    UnknownReset = "unknown_reset" => Forward,
    /// ICMP error that quotes a segment of a known flow: that flow's real server.
    IcmpError = "icmp_error" => Forward,

    /// ARP request for a VIP, answered by the active director.
    ArpAnswered = "arp_answered" => Answer,
    /// Neighbour solicitation for a VIP, answered by the active director.
    NeighbourAnswered = "neighbour_answered" => Answer,
    /// ICMP or ICMPv6 echo request to a VIP.
    EchoAnswered = "echo_answered" => Answer,
    /// No real server is available: the client is told by RST.
    NoServer = "no_server" => Answer,
    /// The flow's real server is dead or was replaced: the client is told by RST.
    DeadServer = "dead_server" => Answer,

    /// The real server is this very node.
    LocalServer = "local_server" => Pass,
    /// Already balanced by another director, or another director's probe of this node.
    OtherDirector = "other_director" => Pass,
    /// Not addressed to a VIP.
    NotVip = "not_vip" => Pass,
    /// To a VIP, but to a port without a service.
    NoService = "no_service" => Pass,
    /// To a VIP, but neither TCP nor ICMP.
    NotTcp = "not_tcp" => Pass,
    /// ICMP to a VIP that neither asks for an echo nor reports an error of a flow known here.
    IcmpOther = "icmp_other" => Pass,
    /// Neither IP nor ARP.
    NotIp = "not_ip" => Pass,
    /// VLAN-tagged, and the configuration leaves such frames to the kernel.
    Tagged = "tagged" => Pass,
    /// With more than one VLAN tag.
    TwoTags = "two_tags" => Pass,
    /// Too short to say whom it is for.
    Runt = "runt" => Pass,
    /// To a VIP, but not to this interface's MAC address.
    NotOurMac = "not_our_mac" => Pass,
    /// ARP that does not ask for a VIP.
    ArpOther = "arp_other" => Pass,
    /// ARP request for a VIP while this director is not active.
    ArpInactive = "arp_inactive" => Pass,
    /// ARP by which another host claims a VIP.
    ArpClaim = "arp_claim" => Pass,
    /// Neighbour discovery that does not ask for a VIP.
    NeighbourOther = "neighbour_other" => Pass,
    /// Neighbour solicitation for a VIP while this director is not active.
    NeighbourInactive = "neighbour_inactive" => Pass,
    /// Neighbour advertisement or solicitation by which another host claims a VIP.
    NeighbourClaim = "neighbour_claim" => Pass,

    /// To a VIP, with an IP version or header length that cannot be.
    BadIpHeader = "bad_ip_header" => Drop,
    /// To a VIP, with an IP length beyond the frame or short of its headers.
    Truncated = "truncated" => Drop,
    /// To a VIP, with a TCP header cut short or a data offset that cannot be.
    BadTcpHeader = "bad_tcp_header" => Drop,
    /// To a VIP, with more IPv6 extension headers than are looked at.
    ExtensionHeaders = "extension_headers" => Drop,
    /// To a VIP, with an ICMP message cut short.
    BadIcmp = "bad_icmp" => Drop,
    /// ICMP error to a VIP that quotes less than 8 bytes of the transport header.
    ShortQuote = "short_quote" => Drop,
    /// Fragment to a VIP.
    Fragment = "fragment" => Drop,
    /// To a VIP, with a TTL or hop limit of 1 or 0.
    TtlExpired = "ttl_expired" => Drop,
    /// From a VIP: no client has one ("land", where it is the same VIP).
    FromVip = "from_vip" => Drop,
    /// To a VIP, from an address that no host has: unspecified, a group's, loopback.
    BadSource = "bad_source" => Drop,
    /// SYN-ACK to a VIP.
    SynAck = "syn_ack" => Drop,
    /// SYN together with FIN or RST.
    SynFin = "syn_fin" => Drop,
    /// TCP without any flag.
    NoFlags = "no_flags" => Drop,
    /// TCP with all flags.
    AllFlags = "all_flags" => Drop,
    /// From a client outside the service's `allowed_clients`.
    NotAllowed = "not_allowed" => Drop,
    /// SYN beyond the rate that the service grants one source.
    SynLimited = "syn_limited" => Drop,
    /// RST that would have been answered by RST.
    ResetUnanswered = "reset_unanswered" => Drop,
    /// The real server's interface cannot be sent through.
    RedirectFailed = "redirect_failed" => Drop,
    /// The answer could not be built in this frame.
    AnswerFailed = "answer_failed" => Drop,
}

#[cfg(test)]
mod tests;
