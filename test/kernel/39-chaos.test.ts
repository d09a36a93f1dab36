// Sessions that everything befalls, seeded: kills, stalls, rubbish, tables that
// are swapped, devices that fail or take their time, under origin, target and
// container. SEED=N makes it another run, ROUNDS=N a longer one; many of them,
// with their figures: npm run chaos:kernel.
import { CHAOS_MACHINE } from './helpers/chaos.js';
import { story } from './helpers/story.js';

describe('sessions of the kernel driver in chaos', () => story('chaos', CHAOS_MACHINE));
