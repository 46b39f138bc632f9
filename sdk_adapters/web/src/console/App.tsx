/** The whole page. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { signOut, token } from "../shared/credentials";
import { Icon } from "../shared/Icon";
import { listen, type Shortcut } from "../shared/keys";
import { PageHead } from "../shared/PageHead";
import { Problems } from "../shared/Problems";
import { ShortcutHelp } from "../shared/ShortcutHelp";
import { SignIn } from "../shared/SignIn";
import { Figures } from "./Figures";
import { LinkPill, StaleLine } from "./LinkState";
import { Side } from "./lists/Side";
import { Sessions } from "./lists/Sessions";
import { Metering } from "./Metering";
import { Picture } from "./picture/Picture";
import { Questions } from "./Questions";
import { Search, SEARCH } from "./Search";
import { Drawer } from "./session/Drawer";
import { clearFilters, link, openSession, tenant, view, VIEWS, type View } from "./state";
import { Timeline } from "./timeline/Timeline";
import { TipBox } from "./TipBox";

const isHelping = signal(false);

const SHORTCUTS: readonly Shortcut[] = [
  { keys: ["/"], shown: "/", what: "Search for a session or a tenant", run: () => document.getElementById(SEARCH)?.focus() },
  { keys: ["1"], shown: "1", what: "The pool", run: () => (view.value = "pool") },
  { keys: ["2"], shown: "2", what: "All sessions", run: () => (view.value = "sessions") },
  { keys: ["3"], shown: "3", what: "Metering", run: () => (view.value = "metering") },
  { keys: ["x"], shown: "X", what: "Show all sessions again", run: clearFilters },
  { keys: ["Escape"], shown: "Esc", what: "Close the session", run: () => (openSession.value = "") },
  { keys: ["?"], shown: "?", what: "This help", run: () => (isHelping.value = true) },
];

const SHOWN: Readonly<Record<View, () => preact.JSX.Element>> = { pool: PoolView, sessions: Sessions, metering: Metering };

/** The console. */
export function App() {
  useEffect(() => listen(SHORTCUTS), []);
  const Shown = SHOWN[view.value];
  const isStale = link.value.is !== "live";
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <div class={`console ${isStale ? "is-stale" : ""} ${openSession.value ? "has-drawer" : ""}`}>
        <PageHead here="Console">
          <Views />
          <Search />
          <LinkPill />
          <button
            class="button quiet icon help-button"
            type="button"
            aria-label="Keyboard shortcuts"
            title="Keyboard shortcuts (?)"
            onClick={() => (isHelping.value = true)}
          >
            <Icon name="keyboard" />
          </button>
          {token.value && (
            <button class="button quiet icon" type="button" aria-label="Sign out" title="Sign out" onClick={leave}>
              <Icon name="leave" />
            </button>
          )}
        </PageHead>
        <StaleLine />
        <main id="main" class="console-main">
          <h1 class="hidden-text">Operator console</h1>
          <Shown />
        </main>
        <Drawer />
      </div>
      <Questions />
      {isHelping.value && <ShortcutHelp shortcuts={SHORTCUTS} onClose={() => (isHelping.value = false)} />}
      <SignIn />
      <Problems />
      <TipBox />
    </>
  );
}

function Views() {
  return (
    <nav class="views" aria-label="Parts of the console">
      {(Object.keys(VIEWS) as View[]).map((name) => (
        <button
          key={name}
          class="view-button"
          type="button"
          aria-current={view.value === name ? "page" : undefined}
          onClick={() => (view.value = name)}
        >
          {VIEWS[name]}
        </button>
      ))}
      {tenant.value && (
        <button class="pill accent filter-pill" type="button" onClick={() => (tenant.value = "")}>
          Tenant {tenant.value} <Icon name="close" size={14} />
          <span class="hidden-text">Show all tenants</span>
        </button>
      )}
    </nav>
  );
}

function leave(): void {
  signOut();
  location.reload();
}

function PoolView() {
  return (
    <div class="pool-view">
      <Figures />
      <div class="pool-main">
        <section class="panel picture" aria-label="The pool as a picture">
          <h2 class="hidden-text">Hosts</h2>
          <Picture />
        </section>
        <Timeline />
      </div>
      <Side />
    </div>
  );
}
