import assert from 'node:assert/strict';
import { type DataPoint, MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics';
import { createBackupMetrics } from '../../../lib/metrics/opentelemetry.js';
import { measured } from '../../helpers/measured.js';

class Reader extends MetricReader {
  protected override async onShutdown() {}
  protected override async onForceFlush() {}
}

function rig() {
  const reader = new Reader();
  const provider = new MeterProvider({ readers: [reader] });
  const metrics = createBackupMetrics(provider.getMeter('test'));
  /** Unit, and value by attributes, of each instrument that has any. */
  const collect = async () => {
    const { resourceMetrics, errors } = await reader.collect();
    assert.deepEqual(errors, []);
    const found = resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics);
    return new Map(
      found.map(({ descriptor, dataPoints }) => [
        descriptor.name,
        {
          unit: descriptor.unit,
          values: (dataPoints as DataPoint<number>[]).map(({ attributes, value }) => ({
            ...attributes,
            value,
          })),
        },
      ]),
    );
  };
  return { metrics, collect };
}

describe('the metrics for OpenTelemetry', () => {
  it('give the figures of each backup, in base units, by its attributes', async () => {
    const { metrics, collect } = rig();
    metrics.add(measured(), { 'snapbak.origin': 'a' });
    const found = await collect();
    const a = { 'snapbak.origin': 'a' };
    assert.deepEqual(found.get('snapbak.done'), { unit: 'By', values: [{ ...a, value: 16_384 }] });
    assert.deepEqual(found.get('snapbak.sweep.rate'), { unit: 'By/s', values: [{ ...a, value: 100 }] });
    assert.deepEqual(found.get('snapbak.writes.held'), { unit: '{write}', values: [{ ...a, value: 5 }] });
    assert.deepEqual(found.get('snapbak.capture.duration.count')?.values, [{ ...a, value: 3 }]);
    assert.deepEqual(found.get('snapbak.capture.duration.quantile'), {
      unit: 's',
      values: [0.5, 0.95, 0.99, 1].map((quantile) => ({ ...a, quantile, value: 3e-6 })),
    });
  });

  it('forget a backup that is taken away', async () => {
    const { metrics, collect } = rig();
    const backup = measured();
    let asked = 0;
    const counting = {
      stats: () => {
        asked++;
        return backup.stats();
      },
    };
    const remove = metrics.add(counting, { 'snapbak.origin': 'a' });
    await collect();
    assert.equal(asked, 1, 'once a collection');
    remove();
    await collect();
    assert.equal(asked, 1);
  });
});
