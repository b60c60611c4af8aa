//! What ties the requests of different keys together, so that a sample of the keys cannot stand for all, or only nearly.

use crate::client::gateway::Stickiness;
use crate::client::sample::{Share, whole};
use crate::client::workload::{Client, Workload};
use crate::provider::profile::Provider;
use crate::provider::routing::{KeyRole, Overflow, Pick, RateOver, Routing, Rule};
use crate::units::Span;

/// With so many slots no request waits.
const NEVER_FULL: u32 = 1_000_000;

/// Checks that there is something to sample, and that nothing but the cache ties one key's requests to another's.
pub fn check(client: &Client, providers: &[&Provider], share: Share) -> Result<(), String> {
    let coupled = || providers.iter().find_map(|provider| keys_are_coupled(provider));
    if let Some(why) = turns_are_common(client).or_else(coupled) {
        return Err(format!("keys cannot be sampled: {why}"));
    }
    if let Some(why) = providers.iter().find_map(|provider| too_thin(client, provider, share)) {
        return Err(why);
    }
    let why_whole = |(name, workload)| whole(workload, client.keying(workload), share).map(|why| (name, why));
    let all_whole: Option<Vec<_>> = client.workload.iter().map(why_whole).collect();
    match all_whole.as_deref() {
        Some([(name, why), ..]) => Err(format!("there is nothing to sample: workload `{name}`: {why}")),
        _ => Ok(()),
    }
}

/// Why requests of all keys count together before they reach the provider.
fn turns_are_common(client: &Client) -> Option<&'static str> {
    (client.gateway.accounts > 1 && client.gateway.stickiness == Stickiness::RoundRobin)
        .then_some("client.gateway.stickiness = round_robin deals all requests out in turn")
}

/// Why one key's requests go elsewhere because of another's.
fn keys_are_coupled(provider: &Provider) -> Option<&'static str> {
    let Routing { rule, machines, overflow, rate_over, pool, pick, .. } = provider.routing;
    let overflows = rule == Rule::Home && overflow != Overflow::None && machines > 1;
    let reasons = [
        (
            overflows && rate_over == RateOver::Machine,
            "provider.routing.rate_over = machine counts the requests of all keys on a machine",
        ),
        (rule == Rule::BoundedLoad, "provider.routing.rule = bounded_load looks at the load of all keys"),
        (rule == Rule::RoundRobin, "provider.routing.rule = round_robin deals all requests out in turn"),
        (
            rule == Rule::Pool && pool > 1 && pick == Pick::LeastLoaded,
            "provider.routing.pick = least_loaded looks at the load of all keys",
        ),
        (
            provider.write.capacity_tokens.is_some(),
            "provider.write.capacity_tokens is room that the keys of a machine share",
        ),
    ];
    reasons.into_iter().find_map(|(holds, why)| holds.then_some(why))
}

/// So many sessions of other keys should start on a machine while what one of them has brought there lives: hardly one in
/// twenty thousand then finds that nobody has.
const OFTEN: f64 = 10.0;

/// Why a sample's machines could lose text that those of the full run keep.
fn too_thin(client: &Client, provider: &Provider, share: Share) -> Option<String> {
    let is_often =
        |share| thinned(client, provider, share) <= MUCH_THINNER || met(client, provider, share) >= OFTEN;
    if !finds_by_luck(client, provider, share) || is_often(share) {
        return None;
    }
    let machines = provider.routing.machines;
    let mut shares = (1..machines).map(|some| Share::of(some, machines));
    let enough = shares.find(|larger| larger.value() > share.value() && is_often(*larger));
    let instead = enough.map_or("only the full run tells".into(), |enough| format!("take {enough}"));
    Some(format!(
        "keys cannot be sampled by {share}: only {:.1} sampled sessions would start on a machine while text that keys share \
         lives there, and whether the next one finds it is luck (provider.routing.key_role = routing); {instead}",
        met(client, provider, share)
    ))
}

/// Sessions of a sample that start on one machine when there are fewest, while what they share lives: of the workload that
/// has the fewest. (Sessions of others may have other text.)
fn met(client: &Client, provider: &Provider, share: Share) -> f64 {
    let of = |workload: &Workload| {
        let wanted = workload.retention.as_deref().or(client.retention.as_deref());
        let policy = provider.policy(wanted, client.zero_data_retention).ok()?;
        let lifetime = Span(provider.retention.lifetime.get(policy)?.mean() as u64);
        Some(workload.arrivals.as_ref()?.least_rate_per_second() * lifetime.seconds())
    };
    let sharing = client.workload.values().filter(|workload| shares_text(client, workload, share));
    let partitions = client.gateway.accounts as usize * provider.routing.backends.len();
    let machines = f64::from(fleet(client, provider, share)) * partitions as f64;
    sharing.filter_map(of).fold(f64::INFINITY, f64::min) * share.value() / machines
}

/// What to know of a sample that is allowed, but not exact in everything.
pub fn notes(client: &Client, provider: &Provider, share: Share) -> Vec<String> {
    let whole = |workload: &Workload| whole(workload, client.keying(workload), share);
    let unsampled = client.workload.iter().filter_map(|(name, workload)| {
        whole(workload).map(|why| format!("sample: workload `{name}` is simulated whole: {why}"))
    });
    let waits = (!is_as_busy(client, provider, share)).then(|| {
        format!(
            "sample: how long requests wait for the {} slots of a machine is not known: times are left out, and if they \
             wait long, sessions go on at another pace than in the full run (see provider.latency.slots)",
            provider.latency.slots
        )
    });
    unsampled.chain(waits).collect()
}

/// Whether sampled keys may find, on their own machines, what others have sent there.
fn finds_by_luck(client: &Client, provider: &Provider, share: Share) -> bool {
    let mut workloads = client.workload.values();
    provider.routing.key_role == KeyRole::Routing
        && workloads.any(|workload| shares_text(client, workload, share))
}

/// Whether the sampled keys of a workload have text in common.
fn shares_text(client: &Client, workload: &Workload, share: Share) -> bool {
    whole(workload, client.keying(workload), share).is_none() && workload.shared_tokens() > 0
}

/// Machines that a key which overflows should find at least.
const FEWEST_MACHINES: u32 = 4;

/// Machines of a partition's fleet in a sample. Where keys find each other's text by luck, or wait for each other, the
/// same share of the machines serves the share of the keys, so that as many as ever meet on a machine. That needs keys
/// that are all sampled, and rules under which a key keeps to its machines, however many others there are.
pub fn fleet(client: &Client, provider: &Provider, share: Share) -> u32 {
    let Routing { rule, machines, overflow, fanout, pool, explore, churn, .. } = provider.routing;
    let keeps_to = match (rule, overflow) {
        (Rule::Home, Overflow::None) => 1,
        (Rule::Home, Overflow::Cascade) => FEWEST_MACHINES,
        (Rule::Home, Overflow::Random) => fanout.saturating_add(1),
        (Rule::Pool, _) => pool,
        (Rule::BoundedLoad | Rule::Random | Rule::RoundRobin, _) => return machines,
    };
    let is_sampled = |workload: &Workload| whole(workload, client.keying(workload), share).is_none();
    let wanders = explore > 0.0 || churn != Span::UNLIMITED;
    if wanders || !client.workload.values().all(is_sampled) {
        return machines;
    }
    let its_share = (f64::from(machines) * share.value()).round() as u32;
    let wait = provider.latency.slots < NEVER_FULL && its_share >= keeps_to;
    match finds_by_luck(client, provider, share) || wait {
        true => its_share.max(keeps_to).min(machines),
        false => machines,
    }
}

/// How much less traffic a machine sees in a sample.
fn thinned(client: &Client, provider: &Provider, share: Share) -> f64 {
    f64::from(fleet(client, provider, share)) / (f64::from(provider.routing.machines) * share.value())
}

/// From how many times less traffic on it a machine is no longer what it was.
const MUCH_THINNER: f64 = 1.1;

/// Whether machines have as much to do as in the full run, or have always room.
pub fn is_as_busy(client: &Client, provider: &Provider, share: Share) -> bool {
    let thin = thinned(client, provider, share);
    provider.latency.slots >= NEVER_FULL || (MUCH_THINNER.recip()..=MUCH_THINNER).contains(&thin)
}
