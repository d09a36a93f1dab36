import assert from 'node:assert/strict';
import { Registry } from 'prom-client';
import { createBackupMetrics } from '../../../lib/metrics/prom-client.js';
import { measured } from '../../helpers/measured.js';

describe('the metrics for prom-client', () => {
  const lines = async (register: Registry) => (await register.metrics()).split('\n');

  it('give the figures of each backup, in base units, by its origin', async () => {
    const register = new Registry();
    const metrics = createBackupMetrics(register);
    metrics.add(measured(), { origin: 'a' });
    metrics.add(measured(), { origin: 'b' });
    const text = await lines(register);
    for (const line of [
      '# TYPE snapbak_done_bytes_total counter',
      'snapbak_done_bytes_total{origin="a"} 16384',
      'snapbak_done_bytes_total{origin="b"} 16384',
      'snapbak_captured_blocks_total{origin="a"} 3',
      'snapbak_writes_held_total{origin="a"} 5',
      '# TYPE snapbak_writes_held_now gauge',
      'snapbak_writes_held_now{origin="a"} 2',
      'snapbak_container_fill_ratio{origin="a"} 0.25',
      'snapbak_sweep_rate_bytes_per_second{origin="a"} 100',
    ]) {
      assert.ok(text.includes(line), `${line}\nis not in\n${text.join('\n')}`);
    }
  });

  it('give the histograms of the driver, cumulated', async () => {
    const register = new Registry();
    createBackupMetrics(register).add(measured(), { origin: 'a' });
    const text = (await lines(register)).filter((line) => line.includes('capture_duration'));
    assert.deepEqual(text.slice(1, 6), [
      '# TYPE snapbak_capture_duration_seconds histogram',
      'snapbak_capture_duration_seconds_bucket{origin="a",le="0.000001"} 0',
      'snapbak_capture_duration_seconds_bucket{origin="a",le="0.000002"} 1',
      'snapbak_capture_duration_seconds_bucket{origin="a",le="0.000004"} 3',
      'snapbak_capture_duration_seconds_bucket{origin="a",le="0.000008"} 3',
    ]);
    assert.deepEqual(text.slice(-3), [
      'snapbak_capture_duration_seconds_bucket{origin="a",le="+Inf"} 3',
      'snapbak_capture_duration_seconds_sum{origin="a"} 0.000008',
      'snapbak_capture_duration_seconds_count{origin="a"} 3',
    ]);
  });

  it('forget a backup that is taken away', async () => {
    const register = new Registry();
    const remove = createBackupMetrics(register).add(measured(), { origin: 'a' });
    await register.metrics();
    remove();
    assert.ok(!(await register.metrics()).includes('origin="a"'));
  });
});
