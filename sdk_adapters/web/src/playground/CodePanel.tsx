/** What was just done, as a program. */
import { signal } from "@preact/signals";
import { Icon } from "../shared/Icon";
import { report } from "../shared/problems";
import { token } from "../shared/credentials";
import { LANGUAGES, program, type Language } from "./code";
import { desk } from "./desk";

const language = signal<Language>("javascript");
/** Where gRPC listens by default; a page cannot know. */
const GRPC_PORT = 50051;

/** See above. */
export function CodePanel() {
  const place = {
    url: location.origin,
    grpc: `${location.hostname}:${GRPC_PORT}`,
    authenticated: token.value !== "",
  };
  const code = program(language.value, desk.deeds.value, place);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(code);
      report({ title: "Copied", advice: "", note: true });
    } catch {
      report({ title: "This browser does not let pages copy", advice: "Select the text and copy it." });
    }
  };
  return (
    <div class="code">
      <div class="code-head">
        <div class="segments" role="group" aria-label="Language">
          {(Object.keys(LANGUAGES) as Language[]).map((each) => (
            <button
              key={each}
              class="button"
              type="button"
              aria-pressed={language.value === each}
              onClick={() => (language.value = each)}
            >
              {LANGUAGES[each]}
            </button>
          ))}
        </div>
        <button
          class="button icon"
          type="button"
          title="Copy"
          aria-label="Copy the program"
          data-testid="copy"
          onClick={() => void copy()}
        >
          <Icon name="copy" />
        </button>
      </div>
      <p class="small muted">
        {desk.deeds.value.length > 1 ? "What you just did, to run it from your own program." : "An example; it becomes what you do."}
      </p>
      <pre class="mono" tabIndex={0} data-testid="code" aria-label={`${LANGUAGES[language.value]} program`}>
        {code}
      </pre>
    </div>
  );
}
