/** The corner where problems are shown. */
import { Icon } from "./Icon";
import { dismiss, problems } from "./problems";

/** A live region: screen readers hear what is added. */
export function Problems() {
  return (
    <div class="problems" role="alert" aria-label="Problems" data-testid="problems">
      {problems.value.map(({ id, title, advice, again, note }) => (
        <div key={id} class={note ? "problem note" : "problem"}>
          <strong>{title}</strong>
          {advice && <span class="advice">{advice}</span>}
          {again && (
            <button
              class="button again"
              type="button"
              onClick={() => {
                dismiss(id);
                again.run();
              }}
            >
              {again.label}
            </button>
          )}
          <button class="button quiet icon" type="button" aria-label="Dismiss" onClick={() => dismiss(id)}>
            <Icon name="close" size={16} />
          </button>
        </div>
      ))}
    </div>
  );
}
