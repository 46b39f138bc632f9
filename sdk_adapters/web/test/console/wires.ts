/** What the service tells, as it writes it: names of fields, nothing that is zero, 64-bit numbers as text. */

/** Returns an event as the journal writes it. */
export function event(sequence: number, kind: string, more: object = {}): object {
  return { sequence: String(sequence), time: "2026-11-23T09:31:02.123456Z", kind: `EVENT_KIND_${kind.toUpperCase()}`, ...more };
}

/** Returns a session of a pool. */
export function session(id: string, state: string, more: object = {}): object {
  return { session_id: id, tenant: "acme", model: "sana-streaming", state: `LEASE_STATE_${state}`, rate_share: 1, age: "12.500s", ...more };
}

/** Returns an actor of a pool. */
export function actor(id: string, more: object = {}): object {
  return {
    actor_id: id,
    model: "sana-streaming",
    host: "host-1",
    gpus: "0",
    healthy: true,
    resident_slots: 160,
    resident_bytes: "68719476736",
    booked_bytes: "53687091200",
    booked_ms_per_s: 812.5,
    ceiling_ms_per_s: 850,
    booked_encode_ms_per_s: 410,
    encode_ceiling_ms_per_s: 7200,
    ...more,
  };
}

/** Returns a pool. */
export function pool(sequence: number, sessions: readonly object[], actors: readonly object[] = [actor("a1")]): object {
  return { event_sequence: String(sequence), sessions, actors, signals: { queued: 1, miss_rate: 0.25, chunks: "900" } };
}

/** Returns a server-sent event. */
export function sent(name: string, data: object, id?: number): string {
  return `${id === undefined ? "" : `id: ${id}\n`}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}
