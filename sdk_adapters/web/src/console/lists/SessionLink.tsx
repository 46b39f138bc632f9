/** The id of a session as a button that opens its drawer. */
import { openSession } from "../state";

/** @param whole Whether the id is seen whole, not just its begin. */
export function SessionLink({ id, whole = false }: { id: string; whole?: boolean }) {
  return (
    <button
      class={whole ? "link mono" : "link mono short"}
      type="button"
      title={`Session ${id}`}
      aria-current={openSession.value === id ? "true" : undefined}
      onClick={() => (openSession.value = id)}
    >
      {id}
    </button>
  );
}
