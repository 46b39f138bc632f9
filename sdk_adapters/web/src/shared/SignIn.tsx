/** Asks for a key or a token, when the service wants one. */
import { useState } from "preact/hooks";
import { asked, signIn } from "./credentials";
import { Dialog } from "./Dialog";
import { problemOf, type Problem } from "./problems";

/** Is shown while `asked` says why. */
export function SignIn() {
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  if (asked.value === null) return null;
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const typed = String(new FormData(event.currentTarget as HTMLFormElement).get("secret") ?? "");
    if (!typed.trim()) return;
    setBusy(true);
    setProblem(null);
    await signIn(typed).catch((error: unknown) => setProblem(problemOf(error)));
    setBusy(false);
  };
  return (
    <Dialog title="Sign in" onClose={() => (asked.value = null)}>
      <form class="dialog-body" style={{ padding: 0 }} onSubmit={(event) => void submit(event)}>
        <p class="muted">{asked.value}</p>
        <label class="field">
          API key or token
          <input class="input mono" name="secret" type="password" autocomplete="off" spellcheck={false} data-first />
        </label>
        <p class="small muted">It stays in this tab until you close it. A key is exchanged for a token and not kept.</p>
        {problem && (
          <p class="small" role="alert">
            <strong>{problem.title}.</strong> {problem.advice}
          </p>
        )}
        <div class="dialog-foot">
          <button class="button primary" type="submit" disabled={busy}>
            Sign in
          </button>
        </div>
      </form>
    </Dialog>
  );
}
