// The parts of a monitoring mixin (https://monitoring.mixins.dev), for those who build theirs with jsonnet; 0.18 and later.
// The files beside it can be used as they are.
{
  _config+:: {
    // What is put before the path docs/runbooks/ALERT.md in each alert's runbook_url: where people read this project.
    runbookUrlPrefix: '',
  },

  grafanaDashboards+:: {
    'parachute-agent.json': import 'agent.json',
    'parachute-container.json': import 'container.json',
    'parachute-fleet.json': import 'fleet.json',
    'parachute-network.json': import 'network.json',
  },

  prometheusAlerts+:: {
    local alerts = std.parseYaml(importstr 'rules/alerts.yml'),
    groups: [
      group { rules: [
        rule { annotations+: { runbook_url: $._config.runbookUrlPrefix + super.runbook_url } }
        for rule in group.rules
      ] }
      for group in alerts.groups
    ],
  },

  prometheusRules+:: std.parseYaml(importstr 'rules/recording.yml'),
}
