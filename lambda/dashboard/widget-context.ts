/** What of CloudWatch's widgetContext the page is made for. */
export interface WidgetContext {
  readonly theme: 'light' | 'dark';
  /** Of the widget, in pixels. */
  readonly width: number;
  /** Of the dashboard's time zone. */
  readonly offsetMinutes: number;
}

/** What an event asks for. */
export type WidgetRequest = { readonly kind: 'describe' } | { readonly kind: 'page'; readonly context: WidgetContext };

// A widget over the whole dashboard, as the stack makes it.
const DEFAULT_WIDTH = 1200;

/**
 * Reads what CloudWatch sends (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/add_custom_widget_dashboard_about.html). It
 * decides only how the page looks, so what is missing or of another form is as if it were not there: a page in the wrong theme says more
 * than an error.
 */
export function readWidgetRequest(event: unknown): WidgetRequest {
  const { describe, widgetContext } = asRecord(event);
  if (describe === true) {
    return { kind: 'describe' };
  }
  const { theme, width, timezone } = asRecord(widgetContext);
  return {
    kind: 'page',
    context: {
      theme: theme === 'dark' ? 'dark' : 'light',
      width: typeof width === 'number' && width > 0 ? width : DEFAULT_WIDTH,
      offsetMinutes: offsetOf(asRecord(timezone)['offsetISO']),
    },
  };
}

// Not `offsetInMinutes`: AWS does not document which of the two signs it has, and in a browser it is the other one.
function offsetOf(offsetIso: unknown): number {
  const [, sign, hours, minutes] =
    (typeof offsetIso === 'string' ? /^([+-])(\d\d):(\d\d)$/.exec(offsetIso) : null) ?? [];
  return (sign === '-' ? -1 : 1) * (Number(hours ?? 0) * 60 + Number(minutes ?? 0));
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
