/** Colours of the console's design system (Cloudscape), so that the page looks as if it belonged there. */
interface Palette {
  readonly background: string;
  readonly text: string;
  readonly quiet: string;
  readonly line: string;
  readonly raised: string;
  readonly link: string;
  readonly good: string;
  readonly bad: string;
  readonly warn: string;
  readonly badRaised: string;
}

/** By CloudWatch's theme. Each of text, quiet, link, good, bad and warn has a contrast of 4.5 at least on the backgrounds (WCAG 2, AA). */
export const PALETTES: Readonly<Record<'light' | 'dark', Palette>> = {
  light: {
    background: '#ffffff',
    text: '#0f141a',
    quiet: '#5b5e66',
    line: '#dedee3',
    raised: '#f6f6f9',
    link: '#006ce0',
    good: '#00802f',
    bad: '#db0000',
    warn: '#855900',
    badRaised: '#fff5f5',
  },
  dark: {
    background: '#161d26',
    text: '#dedee3',
    quiet: '#a4a4ad',
    line: '#424650',
    raised: '#1e2732',
    link: '#42b4ff',
    good: '#2bb534',
    bad: '#ff7a7a',
    warn: '#fbd332',
    badRaised: '#352024',
  },
};

/** Every selector begins with one of our own classes: where the style ends up in the console's page, it touches nothing else there. */
export function styleSheet(theme: 'light' | 'dark'): string {
  const colour = PALETTES[theme];
  return `<style>
.eb-page { background: ${colour.background}; color: ${colour.text}; font-size: 14px; line-height: 20px; font-family: "Open Sans", "Amazon Ember", "Helvetica Neue", Roboto, Arial, sans-serif; text-align: left; }
.eb-page a { color: ${colour.link}; text-decoration: none; cursor: pointer; }
.eb-page a:hover { text-decoration: underline; }
.eb-page p { margin: 8px 0; }
.eb-page bdi { overflow-wrap: anywhere; }
.eb-quiet { color: ${colour.quiet}; }
.eb-good { color: ${colour.good}; }
.eb-bad { color: ${colour.bad}; }
.eb-warn { color: ${colour.warn}; }
.eb-small { font-size: 12px; line-height: 16px; }
.eb-icon { vertical-align: -2px; margin-right: 4px; }
.eb-mono { font-family: Monaco, Menlo, Consolas, "Courier Prime", monospace; font-size: 12px; }
.eb-facts { display: flex; flex-wrap: wrap; margin: 0 0 12px; border-bottom: 1px solid ${colour.line}; }
.eb-fact { flex: 1 1 220px; padding: 4px 20px 12px 0; min-width: 0; }
.eb-value { font-size: 22px; line-height: 30px; font-weight: 700; }
.eb-value .eb-icon { width: 20px; height: 20px; vertical-align: -3px; margin-right: 6px; }
.eb-table { width: 100%; border-collapse: collapse; border: 0; background: transparent; }
.eb-table th { color: ${colour.quiet}; font-size: 12px; line-height: 16px; font-weight: 700; text-align: left; padding: 4px 16px 6px 0; border: 0; border-bottom: 1px solid ${colour.line}; white-space: nowrap; background: transparent; }
.eb-table td { padding: 6px 16px 6px 0; border: 0; border-bottom: 1px solid ${colour.line}; vertical-align: top; text-align: left; background: transparent; color: ${colour.text}; }
.eb-table .eb-number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; padding-right: 24px; }
.eb-table .eb-keep { white-space: nowrap; }
.eb-table .eb-last { text-align: right; white-space: nowrap; padding-right: 0; }
.eb-table td.eb-between { color: ${colour.quiet}; background: ${colour.raised}; text-align: left; white-space: normal; font-size: 12px; line-height: 16px; padding: 5px 8px; }
.eb-word { display: inline-block; max-width: 100%; font-size: 12px; line-height: 16px; border: 1px solid ${colour.line}; border-radius: 4px; padding: 0 5px; margin: 1px 4px 1px 0; color: ${colour.text}; overflow-wrap: anywhere; }
.eb-word.eb-warn { color: ${colour.warn}; border-color: ${colour.warn}; }
.eb-word.eb-bad { color: ${colour.bad}; border-color: ${colour.bad}; }
.eb-block { border: 1px solid ${colour.bad}; border-radius: 8px; background: ${colour.badRaised}; padding: 10px 14px; margin: 0 0 12px; }
.eb-block.eb-block-warn { border-color: ${colour.warn}; background: ${colour.raised}; }
.eb-title { font-size: 16px; font-weight: 700; line-height: 22px; }
.eb-json { font-family: Monaco, Menlo, Consolas, "Courier Prime", monospace; font-size: 12px; line-height: 18px; color: ${colour.text}; background: ${colour.raised}; border: 1px solid ${colour.line}; border-radius: 4px; padding: 6px 10px; margin: 4px 0 10px; white-space: pre-wrap; overflow-wrap: anywhere; -webkit-user-select: all; user-select: all; }
.eb-page ol { margin: 4px 0; padding-left: 22px; }
.eb-page li { margin: 4px 0; }
.eb-page ul { margin: 4px 0; padding-left: 18px; }
</style>`;
}
