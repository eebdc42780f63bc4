-- How fast permits are handed out: the rate grows while work waits, falls at a 429, and remembers what was let through.
--
-- It is the idea of TCP CUBIC (RFC 9438), for a server that answers 429 instead of dropping packets: after a cut the
-- rate grows at once to just below the mark, the rate that the API was found to let through, rests there, and then looks
-- for more along a cubic: barely at first, then faster and faster. A 429 that comes while it looks proves the mark or
-- raises it; one that comes at any other time lowers it. Each proof makes the next rest longer, so a limit that does not
-- change costs fewer and fewer 429s; a mark that is refuted after it had stood makes rests short again for a while.
--
-- What a 429 proves depends on the server. One that counts the calls of a second refuses the call that is too many; one
-- with a bucket of tokens lets a burst through before it refuses, at whatever rate we are by then. So the rate itself
-- proves nothing: a mark is raised to what was let through while looking, less what a bucket may have saved.
--
-- All constants are ours: the best of some ten thousand settings in a simulation of the sandbox's limiters, alone, with
-- a neighbour that comes and goes, and with a limit lower than configured (docs/limiter.md); `python -m benchmarks
-- limiter` measures them for real. The fields are explained in the head of limiter.lua.

local SECOND = 1000000
local RAMP_SECONDS = 5 -- from half the ceiling, where a new state begins, up to it
local SLOWEST = 0.5 -- permits a second, whatever is learned
local JUST_BELOW = 0.97 -- of the mark: here the rate rests
local CUBIC = 0.1 -- of the ceiling: by so much is the rate beyond that when it has looked for more for a second
local CUT = 0.8 -- of the rate: the mark after a 429 that the mark before did not foresee
local DEEP_CUT = 0.65 -- instead, if the gate opened less than
local SOON_SECONDS = 3 -- ago
local SAVED = 0.5 -- of the calls of a second: what a bucket is taken to have saved when a rest ends
local AVERAGED_SECONDS, SURE_SHARE = 3, 0.85 -- and the mark is no higher than this share of the average rate of that time
local SAME = 0.15 -- a mark that differs by less is the old one, proved once more
local REST_SECONDS, SHORT_REST = 8, 0.4 -- after a new mark; the share is for marks of less than
local LOW_MARK = 0.25 -- of the ceiling, where a 429 costs little and a missed chance much
local REST_GROWS = 1.3 -- with each proof
local LONGEST_REST_SECONDS = 240
local RESTLESS_REST_SECONDS = 10 -- no longer rest for
local RESTLESS_SECONDS = 60 -- after a mark was refuted that had stood for
local STOOD_SECONDS = 8
local FORGETS_SECONDS = 60 -- of looking for more without a 429, up to the ceiling: then there is nothing left to learn
local OBSERVED_SECONDS = 1 -- what others take is measured over at least so long,
local OBSERVATION_ENDS_SECONDS = 30 -- and not over more
local KEPT_BACK = 0.005 -- of a window that the API tells of, and one call: calls under way may not be counted yet
local LEARNED = {
  'mark', 'rest', 'rest_until', 'looking', 'stands_since', 'restless_until', 'cut_at',
  'resumed_at', 'seen_at', 'others', 'bound_until',
}

-- The rate at which slots are handed out now.
local function pace_rate(pace, now)
  if pace.bound_until > now then
    return math.max(SLOWEST / 2, math.min(pace.rate, pace.bound))
  end
  return pace.rate
end

-- The rate after so many seconds of looking for more.
local function cubic(pace, ceiling, seconds)
  return math.min(ceiling, JUST_BELOW * pace.mark + CUBIC * ceiling * math.max(0, seconds) ^ 3)
end

-- How many permits those seconds are.
local function looked(pace, ceiling, seconds)
  local below = JUST_BELOW * pace.mark
  local climb = math.min(seconds, (math.max(0, ceiling - below) / (CUBIC * ceiling)) ^ (1 / 3))
  return below * climb + CUBIC * ceiling * climb ^ 4 / 4 + ceiling * (seconds - climb)
end

-- What a slot that somebody waited for does to the rate; seconds: how much later the next one is.
local function grow(pace, ceiling, slot, seconds)
  if pace.mark == 0 then
    pace.rate = math.min(ceiling, pace.rate + ceiling / 2 / RAMP_SECONDS * seconds)
    if pace.rate == ceiling and pace.stands_since == 0 then
      pace.stands_since = slot
    end
    return
  end
  local below = math.min(ceiling, JUST_BELOW * pace.mark)
  if pace.rate < below then
    pace.rate = math.min(below, pace.rate + below * seconds)
  elseif slot >= pace.rest_until then
    pace.looking = pace.looking + seconds
    pace.rate = math.max(pace.rate, cubic(pace, ceiling, pace.looking))
    if pace.rate == ceiling and pace.looking > FORGETS_SECONDS then
      pace.mark, pace.looking, pace.stands_since = 0, 0, slot
    end
  end
end

-- The mark that a 429 leads to which came while the rate was looking for more, after so many seconds of it.
local function found(pace, ceiling, seconds)
  local permits, before = looked(pace, ceiling, seconds), math.max(0, AVERAGED_SECONDS - seconds)
  local average = (permits - looked(pace, ceiling, math.max(0, seconds - AVERAGED_SECONDS)) + JUST_BELOW * pace.mark * before)
    / AVERAGED_SECONDS
  local let_through = seconds > 1 and (permits - SAVED * ceiling) / seconds or 0
  return math.max(pace.mark, math.min(let_through, SURE_SHARE * average))
end

-- The rate of the slots that come now: those that are reserved ahead may be faster already.
local function present_rate(pace, ceiling, now, ahead)
  if pace.mark > 0 then
    return math.min(pace.rate, JUST_BELOW * pace.mark)
  end
  local climbed = pace.stands_since == 0 and ahead or math.max(0, (pace.stands_since - now) / SECOND)
  return pace.rate - ceiling / 2 / RAMP_SECONDS * climbed
end

-- The mark that a 429 leads to which came at a rate that had been let through before.
local function lowered(pace, ceiling, now, ahead)
  local rate = present_rate(pace, ceiling, now, ahead)
  return (now - pace.resumed_at < SOON_SECONDS * SECOND and DEEP_CUT or CUT) * rate
end

-- Learns from a 429 that closed the gate until a moment; at most once a second, since calls under way bring more of them.
-- So many seconds of slots had been reserved ahead, whose calls were not made.
local function cut(pace, ceiling, now, gate, ahead)
  if now - pace.cut_at < SECOND then
    return
  end
  local before, looking = pace.mark, pace.looking - ahead
  local foreseen = looking > 0
  local mark = math.max(SLOWEST, foreseen and found(pace, ceiling, looking) or lowered(pace, ceiling, now, ahead))
  local same = math.abs(mark - before) <= SAME * before
  if foreseen and same then
    pace.rest = math.min(LONGEST_REST_SECONDS, pace.rest * REST_GROWS)
  elseif not same then
    pace.rest = REST_SECONDS * (mark > LOW_MARK * ceiling and 1 or SHORT_REST)
  end
  local had_stood = pace.stands_since > 0 and now - pace.stands_since > STOOD_SECONDS * SECOND
  if had_stood and not (foreseen and same) then
    pace.restless_until = now + RESTLESS_SECONDS * SECOND
  end
  if pace.restless_until > now then
    pace.rest = math.min(pace.rest, RESTLESS_REST_SECONDS)
  end
  pace.mark, pace.rate = mark, JUST_BELOW * mark
  pace.rest_until = gate + pace.rest * SECOND
  pace.looking = 0
  pace.cut_at, pace.resumed_at, pace.stands_since = now, gate, now
end

-- Forgets what was found and told: the limit itself was changed, or the clock.
local function forget(pace)
  for _, name in ipairs(LEARNED) do
    pace[name] = 0
  end
end

-- What the API says of its window: so many calls of so many allowed, and about so many seconds left. The rate is bound
-- to what will be left over by the others, so that the window lasts until its end.
local function observe(pace, now, sent, count, allowed, reset)
  local known = pace.seen_at > 0 and count >= pace.seen_count and reset <= pace.seen_reset + 1
  local seconds = (now - pace.seen_at) / SECOND
  if not known or seconds > OBSERVATION_ENDS_SECONDS then
    pace.seen_at, pace.seen_count, pace.seen_reset, pace.seen_sent = now, count, reset, sent
  elseif seconds >= OBSERVED_SECONDS then
    local others = ((count - pace.seen_count) - (sent - pace.seen_sent)) / seconds
    pace.others = pace.others + (others - pace.others) / 2
    pace.seen_at, pace.seen_count, pace.seen_reset, pace.seen_sent = now, count, reset, sent
  end
  local left = math.max(0, allowed - count - KEPT_BACK * allowed - 1)
  pace.bound = left / math.max(1, reset) - math.max(0, pace.others)
  pace.bound_until = now + math.max(1, reset) * SECOND
  pace.last_sent = sent + math.floor(left)
end
