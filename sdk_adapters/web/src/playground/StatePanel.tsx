/** The state payload, live. */
import { desk } from "./desk";
import { snake } from "./log";

/** A table of all fields, under their names on the wire. */
export function StatePanel() {
  const state = desk.shot.state.value;
  if (state === null) return <p class="muted empty-note">There is no session yet. Its state is shown here as it changes.</p>;
  return (
    <table class="state mono" data-testid="state">
      <caption class="hidden-text">The state of the session</caption>
      <tbody>
        {Object.entries(state).map(([name, value]: [string, unknown]) => (
          <tr key={name}>
            <th scope="row">{snake(name)}</th>
            <td data-kind={typeof value}>{value === null ? "null" : String(value)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
