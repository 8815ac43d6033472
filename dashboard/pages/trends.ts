import { z } from '@hono/zod-openapi';
import { ReportQuery } from '../../api/report-query.js';
import { reportRangeNames } from '../../contract/schemas/reports.js';
import { drawTrend, sumBuckets } from '../drawings/trend-chart.js';
import type { Page } from '../page.js';
import { queryOf } from '../query.js';

/** Templates with a chart of their own; the others are in the sums. */
const chartsMax = 12;
/** Groups of errors that are drawn; the API has more. */
const groupsMax = 25;
/** Width of the drawing of all templates together, which has the whole width of the page. */
const wholeWidth = 1_400;

/** How tasks end and how long they take over time, by template, and what goes wrong most. */
export const trendsPage: Page = {
  path: '/trends',
  nav: 'trends',
  access: 'read',
  view: 'trends',
  live: ['tasks'],
  scripts: ['bulk.js', 'history.js'],
  async load({ caller, services, url }) {
    const { range, template: templates } = queryOf(z.strictObject(ReportQuery), url);
    const [trends, errors] = await Promise.all([
      services.trends(caller, { range, templates }),
      services.errorGroups(caller, { range, templates, group: null, ids: 1 }),
    ]);
    const drawnRange = { from: trends.from, until: trends.until, bucketSeconds: trends.bucket_seconds };
    return {
      title: 'Trends',
      data: {
        trends,
        errors,
        groups: errors.items.slice(0, groupsMax),
        range,
        ranges: reportRangeNames,
        chosen: templates,
        // A group is asked for with the filters that it was shown under.
        groupQuery: new URLSearchParams([['range', range], ...templates.map((name): [string, string] => ['template', name])]).toString(),
        names: [...new Set([...services.listTemplates().items.map(({ name }) => name), ...trends.templates.map(({ template }) => template), ...templates])],
        whole: drawTrend(drawnRange, sumBuckets(trends.templates), wholeWidth),
        charts: trends.templates.slice(0, chartsMax).map((template) => ({ ...template, drawing: drawTrend(drawnRange, template.buckets) })),
        left: Math.max(0, trends.templates.length - chartsMax),
        mayChange: caller.role !== 'viewer',
      },
    };
  },
};
