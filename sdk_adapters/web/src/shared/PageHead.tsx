/** The bar at the top of both pages. */
import type { ComponentChildren } from "preact";
import { Icon } from "./Icon";
import { ThemeSwitch } from "./Theme";

const PAGES = [
  { href: "/", name: "Playground" },
  { href: "/console", name: "Console" },
] as const;

/** @param here Name of this page. What is given as children stands at the right. */
export function PageHead({ here, children }: { here: (typeof PAGES)[number]["name"]; children?: ComponentChildren }) {
  return (
    <header class="page-head">
      <a class="brand" href="/" aria-label="sana-gateway">
        <Icon name="brand" size={28} />
        <span class="brand-name">sana-gateway</span>
      </a>
      <nav class="page-nav" aria-label="Pages">
        {PAGES.map(({ href, name }) => (
          <a key={href} class="button quiet" href={href} aria-current={name === here ? "page" : undefined}>
            {name}
          </a>
        ))}
      </nav>
      <div class="spring" />
      {children}
      <ThemeSwitch />
    </header>
  );
}
