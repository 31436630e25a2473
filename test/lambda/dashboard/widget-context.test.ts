import { readWidgetRequest } from '../../../lambda/dashboard/widget-context';

// As in https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/add_custom_widget_dashboard_about.html
const widgetContext = {
  dashboardName: 'Name-of-current-dashboard',
  widgetId: 'widget-16',
  accountId: '012345678901',
  locale: 'en',
  timezone: { label: 'Local', offsetISO: '+05:30', offsetInMinutes: -330 },
  period: 300,
  isAutoPeriod: true,
  timeRange: { mode: 'relative', start: 1627236199729, end: 1627322599729, relativeStart: 86400012 },
  theme: 'dark',
  linkCharts: true,
  title: 'Newest backups',
  forms: { all: {} },
  params: {},
  width: 588,
  height: 369,
};
const plain = { kind: 'page', context: { theme: 'light', width: 1200, offsetMinutes: 0 } };

test('theme, width and time zone are those of the dashboard', () => {
  expect(readWidgetRequest({ widgetContext })).toEqual({
    kind: 'page',
    context: { theme: 'dark', width: 588, offsetMinutes: 330 },
  });
});

test('a zone west of Greenwich is behind', () => {
  const request = readWidgetRequest({ widgetContext: { timezone: { offsetISO: '-03:30' } } });
  expect(request).toEqual({ kind: 'page', context: { theme: 'light', width: 1200, offsetMinutes: -210 } });
});

test('describe asks for the documentation', () => {
  expect(readWidgetRequest({ describe: true })).toEqual({ kind: 'describe' });
  expect(readWidgetRequest({ describe: 'no' })).toEqual(plain);
});

test.each([
  [undefined],
  [null],
  ['text'],
  [{}],
  [{ widgetContext: null }],
  [{ widgetContext: { theme: '"><script>', width: '1e9', timezone: 'x' } }],
  [{ widgetContext: { width: -1, timezone: { offsetISO: '+1:00' } } }],
  [{ widgetContext: { width: Number.NaN, timezone: { offsetISO: 7 } } }],
])('%j gets the page as it is without a context', (event) => {
  expect(readWidgetRequest(event)).toEqual(plain);
});
