/** What an operator looks for: a session by its id, or a tenant. Pure. */
import type { Session } from "./wire";

/** What was found. */
export type Found =
  | { readonly is: "tenant"; readonly tenant: string; readonly sessions: number }
  | { readonly is: "session"; readonly session: Session };

/** Tells whether a session is what is looked for: its id, tenant, model or actor has the words in it. */
export function matches(session: Session, words: string): boolean {
  const wanted = words.trim().toLowerCase();
  return (
    wanted === "" ||
    session.id.toLowerCase().includes(wanted) ||
    session.tenant.toLowerCase().includes(wanted) ||
    session.model.toLowerCase().includes(wanted) ||
    session.actor.toLowerCase().includes(wanted)
  );
}

/** Returns the best few finds: tenants first, then sessions, those that begin with the words before the others. */
export function find(sessions: Iterable<Session>, words: string, most = 8): readonly Found[] {
  const wanted = words.trim().toLowerCase();
  if (wanted === "") return [];
  const tenants = new Map<string, number>();
  const [beginning, containing]: [Session[], Session[]] = [[], []];
  for (const session of sessions) {
    if (session.tenant !== "" && session.tenant.toLowerCase().includes(wanted)) {
      tenants.set(session.tenant, (tenants.get(session.tenant) ?? 0) + 1);
    }
    const id = session.id.toLowerCase();
    if (id.startsWith(wanted)) beginning.push(session);
    else if (id.includes(wanted)) containing.push(session);
  }
  const byTenant = [...tenants].sort(([one], [other]) => one.localeCompare(other)).slice(0, Math.ceil(most / 2));
  const bySession = [...beginning, ...containing].slice(0, most - byTenant.length);
  return [
    ...byTenant.map(([tenant, count]) => ({ is: "tenant", tenant, sessions: count }) as const),
    ...bySession.map((session) => ({ is: "session", session }) as const),
  ];
}
